#include "core/quant/quantize_gradient.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <numbers>

#include "core/quant/fake_quantize.h"
#include "core/quant/grid_rows.h"
#include "core/quant/scheme.h"
#include "core/support/error.h"

namespace espq {
namespace {

/// Products are added up in lanes of float32 over short stretches.
constexpr int kLanes = 16;

/// d loss / d log2_scale of one row; masks the gradient on the way.
double learn_row(const float* in, const float* gradient, float* out, int64_t count, const GridFloats& grid,
                 Rounding rounding) {
  constexpr int64_t stretch = 512;
  float products[stretch];
  double sum = 0;
  for (int64_t begin = 0; begin < count; begin += stretch) {
    const int64_t size = std::min(stretch, count - begin);
    scale_products(in + begin, gradient + begin, out + begin, products, size, grid, rounding);
    float lanes[kLanes] = {};
    int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes)
      for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += products[i + lane];
    for (; i < size; ++i) lanes[0] += products[i];
    for (float lane : lanes) sum += lane;
  }
  return sum * grid.scale * std::numbers::ln2;
}

/// Gradients to the value and, per exponent, to log2_scale.
std::pair<at::Tensor, at::Tensor> learned_gradients(const at::Tensor& value, const at::Tensor& gradient,
                                                    const std::vector<GridFloats>& grids, const GridRows& rows,
                                                    Rounding rounding) {
  at::Tensor result = at::empty_like(value);
  const at::Tensor matching = gradient.strides() == value.strides() ? gradient : at::empty_like(value).copy_(gradient);
  const float *in = value.const_data_ptr<float>(), *incoming = matching.const_data_ptr<float>();
  float* out = result.mutable_data_ptr<float>();
  // One sum per row, added in order: the number of threads does not decide the result.
  std::vector<double> sums(rows.outer * rows.channels, 0.0), scales(grids.size(), 0.0);
  const int64_t pieces = rows.outer * rows.channels == 1 ? (rows.length + kRowGrain - 1) / kRowGrain : 0;
  if (pieces > 1) {
    std::vector<double> partial(pieces, 0.0);
    at::parallel_for(0, pieces, 1, [&](int64_t begin, int64_t end) {
      for (int64_t piece = begin; piece < end; ++piece) {
        const int64_t first = piece * kRowGrain, count = std::min(kRowGrain, rows.length - first);
        partial[piece] = learn_row(in + first, incoming + first, out + first, count, grids[0], rounding);
      }
    });
    for (double part : partial) scales[0] += part;
  } else {
    rows.for_each([&](int64_t channel, int64_t begin, int64_t count) {
      sums[rows.length ? begin / rows.length : 0] =
          learn_row(in + begin, incoming + begin, out + begin, count, grids[channel], rounding);
    });
    for (size_t row = 0; row < sums.size(); ++row) scales[row % rows.channels] += sums[row];
  }
  return {result, at::tensor(scales, at::kDouble).to(at::kFloat)};
}

/// The same by LibTorch's operators, for tensors on other devices and for exponents that float32 cannot hold.
std::pair<at::Tensor, at::Tensor> general_gradients(const at::Tensor& value, const at::Tensor& gradient,
                                                    const at::Tensor& scale, int channel_axis, int bits,
                                                    Rounding rounding) {
  const at::Tensor v = value / scale, r = round_tensor(v, rounding), q = r.clamp(quant_min(bits), quant_max(bits));
  const at::Tensor inside = r == q;
  const at::Tensor terms = gradient * at::where(inside, r - v, q) * scale * std::numbers::ln2;
  std::vector<int64_t> axes;
  for (int64_t axis = 0; axis < value.dim(); ++axis)
    if (axis != channel_axis) axes.push_back(axis);
  const at::Tensor sum = channel_axis < 0 ? terms.sum() : axes.empty() ? terms : terms.sum(axes);
  return {gradient * inside, sum};
}

class QuantizeGradient : public torch::autograd::Function<QuantizeGradient> {
 public:
  struct Settings : GridRounding {
    bool relu = false;

    std::vector<GridFloats> grids() const {
      std::vector<GridFloats> result;
      for (int exponent : grid.exponents) result.push_back(grid_floats(exponent, grid.bits));
      return result;
    }
    at::Tensor scale(const at::Tensor& like) const { return scale_tensor(grid.exponents, channel_axis, like); }
  };

  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& value,
                            const std::optional<at::Tensor>& log2_scale, const Settings& settings) {
    context->set_materialize_grads(false);
    const auto& [bits, exponents] = settings.grid;
    const bool fast = has_grid_rows(value, exponents);
    if (log2_scale) {
      const at::Tensor kept = walkable(value, exponents.size());
      context->save_for_backward({kept});
      context->saved_data["shape"] = log2_scale->sizes().vec();
      context->saved_data["exponents"] = std::vector<int64_t>(exponents.begin(), exponents.end());
      context->saved_data["grid"] =
          std::vector<int64_t>{settings.channel_axis, bits, static_cast<int64_t>(settings.rounding), fast};
      return plain(kept, settings);
    }
    at::Tensor inside, result;
    if (fast) {
      result = round_rows(value.detach(), exponents, settings.channel_axis, bits, settings.rounding,
                          {.relu = settings.relu}, settings.masked ? &inside : nullptr);
    } else {
      std::tie(result, inside) = general_rounding(value.detach(), settings);
    }
    if (!settings.masked) return result;
    context->save_for_backward({inside});
    return result;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const at::Tensor& gradient = gradients[0];
    if (!gradient.defined()) return {at::Tensor(), at::Tensor(), at::Tensor()};
    const auto saved = context->get_saved_variables();
    if (saved.empty()) return {gradient, at::Tensor(), at::Tensor()};
    if (!context->saved_data.empty()) return learned(context, saved[0], gradient);
    return {masked_gradient(gradient, saved[0]), at::Tensor(), at::Tensor()};
  }

 private:
  /// Result and mask (bool) by as few of LibTorch's operators as there are, each of which is a kernel to start on CUDA.
  static std::tuple<at::Tensor, at::Tensor> general_rounding(const at::Tensor& value, const Settings& settings) {
    const int64_t low = quant_min(settings.grid.bits), high = quant_max(settings.grid.bits);
    if (settings.per_tensor() && settings.rounding == Rounding::HalfEven && value.is_cuda())
      return at::fake_quantize_per_tensor_affine_cachemask(value, std::ldexp(1.0, settings.grid.exponent()), 0, low,
                                                           high);
    const at::Tensor scale = settings.scale(value), r = round_tensor(value / scale, settings.rounding);
    const at::Tensor q = r.clamp(low, high);
    return {q * scale, r.eq(q)};
  }
  static at::Tensor plain(const at::Tensor& value, const Settings& settings) {
    return fake_quantize(value.detach(), settings.grid.exponents, settings.channel_axis, settings.grid.bits,
                         settings.rounding);
  }
  static torch::autograd::variable_list learned(torch::autograd::AutogradContext* context, const at::Tensor& value,
                                                const at::Tensor& gradient) {
    const std::vector<int64_t> exponents = context->saved_data["exponents"].toIntVector();
    const std::vector<int64_t> grid = context->saved_data["grid"].toIntVector();
    const Settings settings{{{static_cast<int>(grid[1]), {exponents.begin(), exponents.end()}},
                             static_cast<int>(grid[0]),
                             static_cast<Rounding>(grid[2])}};
    const GridRows rows(value, settings.channel_axis, exponents.size());
    auto [to_value, to_scale] = grid[3] ? learned_gradients(value, gradient, settings.grids(), rows, settings.rounding)
                                        : general_gradients(value, gradient, settings.scale(value),
                                                            exponents.size() == 1 ? -1 : settings.channel_axis,
                                                            settings.grid.bits, settings.rounding);
    return {to_value, to_scale.reshape(context->saved_data["shape"].toIntVector()), at::Tensor()};
  }
};

class AddAndQuantizeGradient : public torch::autograd::Function<AddAndQuantizeGradient> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& a, const at::Tensor& b,
                            const RowRounding& rounding) {
    context->set_materialize_grads(false);
    at::Tensor inside, result = round_sum(a, b, rounding, inside);
    context->save_for_backward({inside});
    return result;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    torch::autograd::variable_list result(3);
    if (gradients[0].defined())
      result[0] = result[1] = masked_gradient(gradients[0], context->get_saved_variables()[0]);
    return result;
  }
};

}  // namespace

at::Tensor fake_quantize_with_gradient(const at::Tensor& value, const GridRounding& rounding,
                                       const at::Tensor& log2_scale, bool relu) {
  const std::vector<int>& exponents = rounding.grid.exponents;
  internal_check(!exponents.empty(), "quantizing with an unknown exponent");
  const bool learns = log2_scale.defined() && log2_scale.requires_grad();
  const bool plain = !at::GradMode::is_enabled() || (!value.requires_grad() && !learns);
  if (relu && (plain || learns || !rounding.masked || !has_grid_rows(value, exponents)))
    return fake_quantize_with_gradient(at::relu(value), rounding, log2_scale);
  if (plain) return fake_quantize(value, exponents, rounding.channel_axis, rounding.grid.bits, rounding.rounding);
  return QuantizeGradient::apply(value, learns ? std::optional(log2_scale) : std::nullopt,
                                 QuantizeGradient::Settings{rounding, relu});
}

at::Tensor add_and_quantize_with_gradient(const at::Tensor& a, const at::Tensor& b, const GridRounding& rounding,
                                          bool relu) {
  const std::vector<int>& exponents = rounding.grid.exponents;
  const bool learns = at::GradMode::is_enabled() && (a.requires_grad() || b.requires_grad());
  const bool fits = learns && rounding.masked && exponents.size() == 1 && a.sizes() == b.sizes() && a.is_contiguous() &&
                    b.is_contiguous() && has_grid_rows(a, exponents) && has_grid_rows(b, exponents);
  if (!fits) return fake_quantize_with_gradient(at::add(a, b), rounding, {}, relu);
  return AddAndQuantizeGradient::apply(a, b, row_rounding(rounding, relu));
}

}  // namespace espq
