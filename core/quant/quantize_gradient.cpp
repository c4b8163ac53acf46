#include "core/quant/quantize_gradient.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <numbers>

#include "core/quant/fake_quantize.h"
#include "core/quant/scheme.h"
#include "core/support/error.h"

namespace espq {
namespace {

// The clones give the same numbers: every element is rounded once per operation in the order written.
#define ESPQ_CLONES __attribute__((target_clones("avx2", "default")))

/// Elements that share one grid. Multiplying by a power of two is exact, in either direction.
struct Grid {
  float inverse, scale, low, high;
};

Grid grid_of(int exponent, int bits) {
  return {std::ldexp(1.0f, -exponent), std::ldexp(1.0f, exponent), static_cast<float>(quant_min(bits)),
          static_cast<float>(quant_max(bits))};
}

template <Rounding rounding>
inline float rounded(float value) {
  return rounding == Rounding::HalfEven ? std::nearbyint(value) : std::floor(value + 0.5f);
}

inline float clamped(float value, const Grid& grid) {
  const float q = value < grid.low ? grid.low : value;
  return q > grid.high ? grid.high : q;
}

#define ESPQ_FORWARD(name, rounding)                                                                                  \
  ESPQ_CLONES void name(const float* __restrict in, float* __restrict out, uint8_t* __restrict inside, int64_t count, \
                        Grid grid) {                                                                                  \
    for (int64_t i = 0; i < count; ++i) {                                                                             \
      const float r = rounded<rounding>(in[i] * grid.inverse), q = clamped(r, grid);                                  \
      out[i] = q * grid.scale;                                                                                        \
      inside[i] = r == q;                                                                                             \
    }                                                                                                                 \
  }                                                                                                                   \
  ESPQ_CLONES void name##_unmasked(const float* __restrict in, float* __restrict out, uint8_t*, int64_t count,        \
                                   Grid grid) {                                                                       \
    for (int64_t i = 0; i < count; ++i) out[i] = clamped(rounded<rounding>(in[i] * grid.inverse), grid) * grid.scale; \
  }
ESPQ_FORWARD(forward_half_even, Rounding::HalfEven)
ESPQ_FORWARD(forward_half_up, Rounding::HalfUp)
#undef ESPQ_FORWARD

ESPQ_CLONES void mask_row(const float* __restrict gradient, const uint8_t* __restrict inside, float* __restrict out,
                          int64_t count) {
  for (int64_t i = 0; i < count; ++i) out[i] = inside[i] ? gradient[i] : 0.0f;
}

/// Masks the gradient and adds up what reaches the scale, in lanes of float32 over short stretches.
constexpr int kLanes = 16;
#define ESPQ_LEARN(name, rounding)                                                                           \
  ESPQ_CLONES void name(const float* __restrict in, const float* __restrict gradient, float* __restrict out, \
                        float* __restrict lanes, int64_t count, Grid grid) {                                 \
    for (int64_t i = 0; i < count; ++i) {                                                                    \
      const float v = in[i] * grid.inverse, r = rounded<rounding>(v), q = clamped(r, grid);                  \
      out[i] = r == q ? gradient[i] : 0.0f;                                                                  \
      lanes[i] = gradient[i] * (r == q ? r - v : q);                                                         \
    }                                                                                                        \
  }
ESPQ_LEARN(learn_half_even, Rounding::HalfEven)
ESPQ_LEARN(learn_half_up, Rounding::HalfUp)
#undef ESPQ_LEARN

/// d loss / d log2_scale of one row; masks the gradient on the way.
double learn_row(const float* in, const float* gradient, float* out, int64_t count, const Grid& grid,
                 Rounding rounding) {
  constexpr int64_t stretch = 512;
  float products[stretch];
  double sum = 0;
  for (int64_t begin = 0; begin < count; begin += stretch) {
    const int64_t size = std::min(stretch, count - begin);
    const auto learn = rounding == Rounding::HalfEven ? learn_half_even : learn_half_up;
    learn(in + begin, gradient + begin, out + begin, products, size, grid);
    float lanes[kLanes] = {};
    int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes)
      for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += products[i + lane];
    for (; i < size; ++i) lanes[0] += products[i];
    for (float lane : lanes) sum += lane;
  }
  return sum * grid.scale * std::numbers::ln2;
}

/// How a tensor falls into rows of one grid: [outer, channels, row] in memory.
struct Rows {
  int64_t outer = 1, channels = 1, length = 0;

  Rows(const at::Tensor& value, int channel_axis, size_t exponents) {
    if (exponents == 1) {
      length = value.numel();
      return;
    }
    for (int axis = 0; axis < channel_axis; ++axis) outer *= value.size(axis);
    channels = value.size(channel_axis);
    length = value.numel() / std::max<int64_t>(outer * channels, 1);
    internal_check(channels == static_cast<int64_t>(exponents),
                   "number of exponents differs from the number of channels");
  }
};

constexpr int64_t kGrain = 1 << 14;

/// function(exponent index, first element, number of elements): pieces that can run side by side.
template <typename Function>
void for_each_row(const Rows& rows, const Function& function) {
  if (rows.outer * rows.channels == 1) {
    at::parallel_for(0, rows.length, kGrain, [&](int64_t begin, int64_t end) { function(0, begin, end - begin); });
    return;
  }
  at::parallel_for(0, rows.outer * rows.channels, std::max<int64_t>(1, kGrain / std::max<int64_t>(rows.length, 1)),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t row = begin; row < end; ++row)
                       function(row % rows.channels, row * rows.length, rows.length);
                   });
}

/// Whether the rows can be walked as they lie in memory: per tensor in any dense order, per channel in plain order.
at::Tensor walkable(const at::Tensor& value, size_t exponents) {
  return exponents == 1 && value.is_non_overlapping_and_dense() ? value : value.contiguous();
}

/// Rounds; `inside`, unless nullptr, gets one byte per element.
at::Tensor forward_rows(const at::Tensor& value, const std::vector<Grid>& grids, const Rows& rows, Rounding rounding,
                        at::Tensor* inside) {
  at::Tensor result = at::empty_like(value);
  if (inside) *inside = at::empty_like(value, at::kByte);
  const float* in = value.const_data_ptr<float>();
  float* out = result.mutable_data_ptr<float>();
  uint8_t* mask = inside ? inside->mutable_data_ptr<uint8_t>() : nullptr;
  const bool even = rounding == Rounding::HalfEven;
  const auto forward = inside ? (even ? forward_half_even : forward_half_up)
                              : (even ? forward_half_even_unmasked : forward_half_up_unmasked);
  for_each_row(rows, [&](int64_t channel, int64_t begin, int64_t count) {
    forward(in + begin, out + begin, mask ? mask + begin : nullptr, count, grids[channel]);
  });
  return result;
}

at::Tensor masked_gradient(const at::Tensor& gradient, const at::Tensor& inside) {
  if (gradient.scalar_type() != at::kFloat || !gradient.is_cpu() || gradient.strides() != inside.strides())
    return at::where(inside.to(at::kBool), gradient, at::zeros({}, gradient.options()));
  at::Tensor result = at::empty_like(inside, at::kFloat);
  const float* in = gradient.const_data_ptr<float>();
  const uint8_t* mask = inside.const_data_ptr<uint8_t>();
  float* out = result.mutable_data_ptr<float>();
  at::parallel_for(0, inside.numel(), kGrain,
                   [&](int64_t begin, int64_t end) { mask_row(in + begin, mask + begin, out + begin, end - begin); });
  return result;
}

/// Gradients to the value and, per exponent, to log2_scale.
std::pair<at::Tensor, at::Tensor> learned_gradients(const at::Tensor& value, const at::Tensor& gradient,
                                                    const std::vector<Grid>& grids, const Rows& rows,
                                                    Rounding rounding) {
  at::Tensor result = at::empty_like(value);
  const at::Tensor matching = gradient.strides() == value.strides() ? gradient : at::empty_like(value).copy_(gradient);
  const float *in = value.const_data_ptr<float>(), *incoming = matching.const_data_ptr<float>();
  float* out = result.mutable_data_ptr<float>();
  // One sum per row, added in order: the number of threads does not decide the result.
  std::vector<double> sums(rows.outer * rows.channels, 0.0), scales(grids.size(), 0.0);
  const int64_t pieces = rows.outer * rows.channels == 1 ? (rows.length + kGrain - 1) / kGrain : 0;
  if (pieces > 1) {
    std::vector<double> partial(pieces, 0.0);
    at::parallel_for(0, pieces, 1, [&](int64_t begin, int64_t end) {
      for (int64_t piece = begin; piece < end; ++piece) {
        const int64_t first = piece * kGrain, count = std::min(kGrain, rows.length - first);
        partial[piece] = learn_row(in + first, incoming + first, out + first, count, grids[0], rounding);
      }
    });
    for (double part : partial) scales[0] += part;
  } else {
    for_each_row(rows, [&](int64_t channel, int64_t begin, int64_t count) {
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
  struct Settings {
    std::vector<int> exponents;
    int channel_axis, bits;
    Rounding rounding;
    bool masked;

    bool fits_float32() const {
      return std::all_of(exponents.begin(), exponents.end(), [](int e) { return e > -120 && e < 90; });
    }
    std::vector<Grid> grids() const {
      std::vector<Grid> result;
      for (int exponent : exponents) result.push_back(grid_of(exponent, bits));
      return result;
    }
    at::Tensor scale(const at::Tensor& like) const { return dequantize(at::ones_like(like), exponents, channel_axis); }
  };

  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& value,
                            const std::optional<at::Tensor>& log2_scale, const Settings& settings) {
    context->set_materialize_grads(false);
    const bool fast = value.is_cpu() && value.scalar_type() == at::kFloat && settings.fits_float32();
    if (log2_scale) {
      const at::Tensor kept = walkable(value, settings.exponents.size());
      context->save_for_backward({kept});
      context->saved_data["shape"] = log2_scale->sizes().vec();
      context->saved_data["exponents"] = std::vector<int64_t>(settings.exponents.begin(), settings.exponents.end());
      context->saved_data["grid"] =
          std::vector<int64_t>{settings.channel_axis, settings.bits, static_cast<int64_t>(settings.rounding), fast};
      return plain(kept, settings);
    }
    at::Tensor inside, result;
    if (fast) {
      const at::Tensor dense = walkable(value, settings.exponents.size());
      const Rows rows(dense, settings.channel_axis, settings.exponents.size());
      result = forward_rows(dense, settings.grids(), rows, settings.rounding, settings.masked ? &inside : nullptr);
    } else {
      result = plain(value, settings);
      if (settings.masked) {
        const at::Tensor r = round_tensor(value / settings.scale(value), settings.rounding);
        inside = (r >= quant_min(settings.bits)).logical_and_(r <= quant_max(settings.bits)).to(at::kByte);
      }
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
  static at::Tensor plain(const at::Tensor& value, const Settings& settings) {
    return fake_quantize(value.detach(), settings.exponents, settings.channel_axis, settings.bits, settings.rounding);
  }
  static torch::autograd::variable_list learned(torch::autograd::AutogradContext* context, const at::Tensor& value,
                                                const at::Tensor& gradient) {
    const std::vector<int64_t> exponents = context->saved_data["exponents"].toIntVector();
    const std::vector<int64_t> grid = context->saved_data["grid"].toIntVector();
    const Settings settings{{exponents.begin(), exponents.end()},
                            static_cast<int>(grid[0]),
                            static_cast<int>(grid[1]),
                            static_cast<Rounding>(grid[2]),
                            true};
    const Rows rows(value, settings.channel_axis, exponents.size());
    auto [to_value, to_scale] = grid[3] ? learned_gradients(value, gradient, settings.grids(), rows, settings.rounding)
                                        : general_gradients(value, gradient, settings.scale(value),
                                                            exponents.size() == 1 ? -1 : settings.channel_axis,
                                                            settings.bits, settings.rounding);
    return {to_value, to_scale.reshape(context->saved_data["shape"].toIntVector()), at::Tensor()};
  }
};

}  // namespace

at::Tensor fake_quantize_with_gradient(const at::Tensor& value, const std::vector<int>& exponents, int channel_axis,
                                       int bits, Rounding rounding, bool masked, const at::Tensor& log2_scale) {
  internal_check(!exponents.empty(), "quantizing with an unknown exponent");
  const bool learns = log2_scale.defined() && log2_scale.requires_grad();
  if (!at::GradMode::is_enabled() || (!value.requires_grad() && !learns))
    return fake_quantize(value, exponents, channel_axis, bits, rounding);
  return QuantizeGradient::apply(value, learns ? std::optional(log2_scale) : std::nullopt,
                                 QuantizeGradient::Settings{exponents, channel_axis, bits, rounding, masked});
}

}  // namespace espq
