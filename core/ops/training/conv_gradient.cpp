#include "core/ops/training/conv_gradient.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "core/ops/conv.h"
#include "core/ops/kernels/plane_convolution.h"
#include "core/quant/grid_rows.h"
#include "core/quant/quantize_gradient.h"

namespace espq {
namespace {

/// Filters with more factors than this are faster in LibTorch's blocked layouts, which pay for themselves there.
constexpr int64_t kMostFactors = 40000;

/// Whether the float32 sums of filters times input are exact in any order: all of them are integers below 2^24 in units
/// of the product's grid. A bias beyond that (those of channels with tiny weights fill 32 bits) rounds the sum in every
/// order, by some 2^-20 of what the chip shifts away.
bool exact_in_any_order(const at::Tensor& filters, const Grid& input, const Grid& grid) {
  if (input.bits == 0 || grid.bits == 0 || input.exponents.size() != 1) return false;
  constexpr int64_t kLanes = 16;
  const int64_t count = filters.size(0), terms = filters.numel() / std::max<int64_t>(count, 1);
  const double largest = std::ldexp(1.0, input.bits - 1);
  for (int64_t filter = 0; filter < count; ++filter) {
    const float* factors = filters.const_data_ptr<float>() + filter * terms;
    float lanes[kLanes] = {};
    int64_t i = 0;
    for (; i + kLanes <= terms; i += kLanes)
      for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += std::fabs(factors[i + lane]);
    for (; i < terms; ++i) lanes[0] += std::fabs(factors[i]);
    double sum = 0;
    for (float lane : lanes) sum += lane;
    const int exponent = grid.exponents[grid.exponents.size() == 1 ? 0 : filter];
    if (!(std::ldexp(sum, -exponent) * largest < (1 << 24))) return false;
  }
  return true;
}

/// A parameter as the chip will have it; `inside` gets the mask of its gradient where there is one.
at::Tensor rounded_parameter(const at::Tensor& value, const GridRounding& rounding, at::Tensor& inside) {
  at::Tensor dense = value.contiguous();
  if (!rounding.grid.quantized()) return dense;
  return round_rows(dense, rounding.grid.exponents, rounding.channel_axis, rounding.grid.bits, rounding.rounding, {},
                    rounding.masked ? &inside : nullptr);
}

at::Tensor rounded_with_gradient(const at::Tensor& value, const GridRounding& rounding, bool relu = false) {
  return rounding.grid.quantized() ? fake_quantize_with_gradient(value, rounding, {}, relu) : value;
}

/// The samples of a batch in pieces: small enough to stay in a processor's cache from packing to unpacking, each the
/// work of one thread. How they are cut depends on shapes alone, so that the number of threads decides no sum.
class Pieces {
 public:
  Pieces(const Window& window, int64_t groups, at::IntArrayRef input, at::IntArrayRef filters)
      : samples_(input[0]), input_shape_(input.vec()) {
    std::vector<int64_t> shape = input.vec();
    shape[0] = 1;
    const PlaneConvolution single(window, groups, shape, filters);
    const int64_t floats = single.plane_length() * (single.planes() + filters[0]);
    size_ = std::clamp<int64_t>(kFloats / floats, 1, samples_);
    size_ = std::max(size_, (samples_ + kMostPieces - 1) / kMostPieces);
    shape[0] = size_;
    convolutions_.emplace_back(window, groups, shape, filters);
    shape[0] = samples_ - (count() - 1) * size_;
    if (shape[0] != size_) convolutions_.emplace_back(window, groups, shape, filters);
  }

  at::IntArrayRef input_shape() const { return input_shape_; }
  int64_t count() const { return (samples_ + size_ - 1) / size_; }
  const PlaneConvolution& convolution(int64_t piece) const {
    return piece + 1 == count() ? convolutions_.back() : convolutions_.front();
  }
  at::Tensor of(const at::Tensor& batch, int64_t piece) const {
    return count() == 1 ? batch : batch.narrow(0, piece * size_, std::min(size_, samples_ - piece * size_));
  }
  /// function(piece), side by side; where there are fewer than threads, each shares its own work among them.
  template <typename Function>
  void for_each(const Function& function) const {
    if (count() < at::get_num_threads() || count() == 1) {
      for (int64_t piece = 0; piece < count(); ++piece) function(piece);
      return;
    }
    at::parallel_for(0, count(), 1, [&](int64_t begin, int64_t end) {
      const c10::NoGradGuard no_gradients;  // other threads have a mode of their own
      for (int64_t piece = begin; piece < end; ++piece) function(piece);
    });
  }

 private:
  static constexpr int64_t kFloats = 1 << 18;  ///< a mebibyte, what a core has to itself
  static constexpr int64_t kMostPieces = 128;

  int64_t samples_, size_ = 0;
  std::vector<int64_t> input_shape_;
  std::vector<PlaneConvolution> convolutions_;  ///< of a whole piece, and of the last one if it is smaller
};

at::Tensor sum_of(std::vector<at::Tensor> parts) {
  for (size_t i = 1; i < parts.size(); ++i) parts[0].add_(parts[i]);
  return parts[0];
}

/// What the way back needs besides tensors.
struct State : torch::CustomClassHolder {
  Pieces pieces;
  bool in_planes = false;  ///< so is the mask of the result
  bool has_bias = false;

  explicit State(Pieces given) : pieces(std::move(given)) {}
};

class ConvGradient : public torch::autograd::Function<ConvGradient> {
 public:
  using Context = torch::autograd::AutogradContext;
  using Variables = torch::autograd::variable_list;

  static at::Tensor forward(Context* context, const at::Tensor& input, const at::Tensor& filters,
                            const std::optional<at::Tensor>& given_bias, const Window& window, int64_t groups,
                            const ConvGradientOptions& options) {
    context->set_materialize_grads(false);
    at::Tensor filters_inside, bias_inside, bias, result;
    const at::Tensor weights = rounded_parameter(filters, options.round_filters, filters_inside);
    if (given_bias) bias = rounded_parameter(*given_bias, options.round_bias, bias_inside);
    const auto state = c10::make_intrusive<State>(Pieces(window, groups, input.sizes(), filters.sizes()));
    const Pieces& pieces = state->pieces;
    const bool in_planes = state->in_planes = exact_in_any_order(weights, options.input, options.filters);
    state->has_bias = bias.defined();
    Variables planes(pieces.count()), insides(in_planes ? pieces.count() : 1);
    if (in_planes) {
      std::vector<int64_t> shape = pieces.convolution(0).output_shape().vec();
      shape[0] = input.size(0);
      result = at::empty(shape, input.options().requires_grad(false));
    }
    pieces.for_each([&](int64_t i) {
      const PlaneConvolution& convolution = pieces.convolution(i);
      planes[i] = convolution.pack_input(pieces.of(input, i));
      if (in_planes)
        insides[i] = forward_in_planes(convolution, planes[i], weights, bias, options, pieces.of(result, i));
    });
    if (!in_planes) {
      result = convolve(window, groups, input, weights, bias);
      if (const auto& [grid, axis, rounding, masked] = options.output; grid.quantized())
        result = round_rows(result, grid.exponents, axis, grid.bits, rounding,
                            {.relu = options.relu, .overwrite = true}, &insides[0]);
    }
    Variables saved{weights, filters_inside, bias_inside};
    saved.insert(saved.end(), planes.begin(), planes.end());
    saved.insert(saved.end(), insides.begin(), insides.end());
    context->save_for_backward(std::move(saved));
    context->saved_data["state"] = c10::IValue::make_capsule(state);
    return result;
  }

  static Variables backward(Context* context, Variables gradients) {
    Variables result(6);
    at::Tensor gradient = gradients[0];
    if (!gradient.defined()) return result;
    const Variables saved = context->get_saved_variables();
    const at::Tensor& weights = saved[0];
    const auto state = c10::static_intrusive_pointer_cast<State>(context->saved_data["state"].toCapsule());
    const Pieces& pieces = state->pieces;
    const bool in_planes = state->in_planes;
    const at::Tensor *planes = &saved[3], *insides = planes + pieces.count();
    if (!in_planes && insides[0].defined()) gradient = masked_gradient(gradient, insides[0]);
    gradient = gradient.contiguous();
    // An operand that was not given is none that autograd counts.
    const bool to_input = context->needs_input_grad(0), to_filters = context->needs_input_grad(1),
               to_bias = state->has_bias && context->needs_input_grad(2);
    if (to_input) result[0] = at::empty(pieces.input_shape(), gradient.options());
    Variables filter_gradients(pieces.count()), bias_gradients(pieces.count());
    pieces.for_each([&](int64_t i) {
      const PlaneConvolution& convolution = pieces.convolution(i);
      const at::Tensor packed =
          convolution.pack_gradient(pieces.of(gradient, i), in_planes ? mask_of(insides[i]) : nullptr);
      if (to_input) convolution.input_gradient(packed, weights, pieces.of(result[0], i));
      if (to_filters) filter_gradients[i] = convolution.filter_gradient(packed, planes[i]);
      if (to_bias) bias_gradients[i] = convolution.bias_gradient(packed);
    });
    if (to_filters) result[1] = sum_of(std::move(filter_gradients));
    if (to_bias) result[2] = sum_of(std::move(bias_gradients));
    for (size_t i = 1; i < 3; ++i)
      if (result[i].defined() && saved[i].defined()) result[i] = masked_gradient(result[i], saved[i]);
    return result;
  }

 private:
  /// Fills `result`; returns the mask of its rounding, in planes.
  static at::Tensor forward_in_planes(const PlaneConvolution& convolution, const at::Tensor& planes,
                                      const at::Tensor& weights, const at::Tensor& bias,
                                      const ConvGradientOptions& options, const at::Tensor& result) {
    if (!options.output.grid.quantized()) {
      convolution.forward(planes, weights, bias, nullptr, result);
      return {};
    }
    at::Tensor inside = at::empty({weights.size(0), convolution.plane_length()}, weights.options().dtype(at::kByte));
    uint8_t* bytes = inside.mutable_data_ptr<uint8_t>();
    const RowRounding row = row_rounding(options.output, options.relu);
    const auto round = [&](float* values, int64_t begin, int64_t count) {
      round_row(values, values, bytes + begin, count, row.grid, row.rounding, row.relu);
    };
    convolution.forward(planes, weights, bias, round, result);
    return inside;
  }

  static PlaneConvolution::Finish mask_of(const at::Tensor& inside) {
    if (!inside.defined()) return nullptr;
    const uint8_t* bytes = inside.const_data_ptr<uint8_t>();
    return [bytes](float* values, int64_t begin, int64_t count) { mask_row(values, bytes + begin, values, count); };
  }
};

}  // namespace

at::Tensor convolve_with_gradient(const Operation& operation, const at::Tensor& input, const at::Tensor& filters,
                                  const at::Tensor& bias, const ConvGradientOptions& options) {
  const int64_t groups = operation.int_attribute("group", 1);
  const bool fits = at::GradMode::is_enabled() && input.dim() == filters.dim() && filters.dim() >= 3 && groups > 0 &&
                    filters.size(1) * groups == input.size(1) && filters.numel() <= kMostFactors * groups &&
                    has_grid_rows(filters, options.round_filters.grid.exponents) &&
                    (!bias.defined() || has_grid_rows(bias, options.round_bias.grid.exponents));
  if (fits) {
    const Window window = read_window(operation, input.sizes(), filters.sizes().slice(2).vec());
    if (PlaneConvolution::supports(window, input, filters))
      return ConvGradient::apply(input, filters, bias.defined() ? std::optional(bias) : std::nullopt, window, groups,
                                 options);
  }
  const at::Tensor result = convolve(operation, input, rounded_with_gradient(filters, options.round_filters),
                                     bias.defined() ? rounded_with_gradient(bias, options.round_bias) : bias);
  return rounded_with_gradient(result, options.output, options.relu);
}

}  // namespace espq
