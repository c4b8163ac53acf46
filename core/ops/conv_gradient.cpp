#include "core/ops/conv_gradient.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "core/ops/conv.h"
#include "core/ops/plane_convolution.h"
#include "core/quant/grid_rows.h"
#include "core/quant/quantize_gradient.h"

namespace espq {
namespace {

/// Filters with more factors than this are faster in LibTorch's blocked layouts, which pay for themselves there.
constexpr int64_t kMostFactors = 40000;

/// Whether the float32 sums of filters times input plus bias are exact in any order: all of them are integers below
/// 2^24 in units of the product's grid.
bool exact_in_any_order(const at::Tensor& filters, const at::Tensor& bias, const Grid& input, const Grid& grid) {
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
    double start = 0;
    if (bias.defined()) {
      start = std::ldexp(bias.const_data_ptr<float>()[filter], -exponent - input.exponents[0]);
      if (start != std::nearbyint(start)) return false;
    }
    if (!(std::ldexp(sum, -exponent) * largest + std::fabs(start) < (1 << 24))) return false;
  }
  return true;
}

/// A parameter as the chip will have it; `inside` gets the mask of its gradient where there is one.
at::Tensor rounded_parameter(const at::Tensor& value, const ConvGradientOptions::Parameter& parameter,
                             Rounding rounding, at::Tensor& inside) {
  const at::Tensor dense = value.contiguous();
  if (!parameter.grid.quantized()) return dense;
  return round_rows(dense, parameter.grid.exponents, parameter.channel_axis, parameter.grid.bits, rounding, {},
                    parameter.masked ? &inside : nullptr);
}

at::Tensor rounded_with_gradient(const at::Tensor& value, const ConvGradientOptions::Parameter& parameter,
                                 Rounding rounding) {
  if (!parameter.grid.quantized()) return value;
  return fake_quantize_with_gradient(value, parameter.grid.exponents, parameter.channel_axis, parameter.grid.bits,
                                     rounding, parameter.masked);
}

class ConvGradient : public torch::autograd::Function<ConvGradient> {
 public:
  using Context = torch::autograd::AutogradContext;
  using Variables = torch::autograd::variable_list;

  static at::Tensor forward(Context* context, const at::Tensor& input, const at::Tensor& filters,
                            const std::optional<at::Tensor>& given_bias, const Window& window, int64_t groups,
                            const ConvGradientOptions& options) {
    context->set_materialize_grads(false);
    at::Tensor filters_inside, bias_inside, bias;
    const at::Tensor weights = rounded_parameter(filters, options.round_filters, options.rounding, filters_inside);
    if (given_bias) bias = rounded_parameter(*given_bias, options.round_bias, options.rounding, bias_inside);
    const PlaneConvolution convolution(window, groups, input.sizes(), filters.sizes());
    const at::Tensor planes = convolution.pack_input(input);
    at::Tensor result, inside;
    const bool in_planes = exact_in_any_order(weights, bias, options.input, options.filters);
    if (in_planes) {
      result = forward_in_planes(convolution, planes, weights, bias, options, inside);
    } else {
      result = convolve(window, groups, input, weights, bias);
      if (options.output.bits)
        result = round_rows(result, options.output.exponents, -1, options.output.bits, options.rounding,
                            {.relu = options.relu, .overwrite = true}, &inside);
    }
    context->save_for_backward({planes, weights, inside, filters_inside, bias_inside});
    context->saved_data["in_planes"] = in_planes;
    context->saved_data["has_bias"] = bias.defined();
    context->saved_data["window"] = packed(window, groups, input.sizes());
    return result;
  }

  static Variables backward(Context* context, Variables gradients) {
    Variables result(6);
    at::Tensor gradient = gradients[0];
    if (!gradient.defined()) return result;
    const Variables saved = context->get_saved_variables();
    const at::Tensor &planes = saved[0], &weights = saved[1], &inside = saved[2];
    const PlaneConvolution convolution = unpacked(context->saved_data["window"].toIntVector(), weights.sizes());
    PlaneConvolution::Finish mask;
    if (inside.defined()) {
      const uint8_t* bytes = inside.const_data_ptr<uint8_t>();
      if (context->saved_data["in_planes"].toBool()) {
        mask = [bytes](float* values, int64_t begin, int64_t count) { mask_row(values, bytes + begin, values, count); };
      } else {
        gradient = masked_gradient(gradient, inside);
      }
    }
    const at::Tensor packed_gradient = convolution.pack_gradient(gradient, mask);
    if (context->needs_input_grad(0)) result[0] = convolution.input_gradient(packed_gradient, weights);
    if (context->needs_input_grad(1)) result[1] = convolution.filter_gradient(packed_gradient, planes);
    // An operand that was not given is none that autograd counts.
    const bool has_bias = context->saved_data["has_bias"].toBool();
    if (has_bias && context->needs_input_grad(2)) result[2] = convolution.bias_gradient(packed_gradient);
    for (size_t i = 1; i < 3; ++i)
      if (result[i].defined() && saved[i + 2].defined()) result[i] = masked_gradient(result[i], saved[i + 2]);
    return result;
  }

 private:
  static at::Tensor forward_in_planes(const PlaneConvolution& convolution, const at::Tensor& planes,
                                      const at::Tensor& weights, const at::Tensor& bias,
                                      const ConvGradientOptions& options, at::Tensor& inside) {
    if (options.output.bits == 0) return convolution.forward(planes, weights, bias, nullptr);
    inside = at::empty({weights.size(0), convolution.plane_length()}, weights.options().dtype(at::kByte));
    uint8_t* bytes = inside.mutable_data_ptr<uint8_t>();
    const GridFloats grid = grid_floats(options.output.exponent(), options.output.bits);
    return convolution.forward(planes, weights, bias, [&](float* values, int64_t begin, int64_t count) {
      round_row(values, values, bytes + begin, count, grid, options.rounding, options.relu);
    });
  }

  static std::vector<int64_t> packed(const Window& window, int64_t groups, at::IntArrayRef input) {
    std::vector<int64_t> numbers{groups};
    for (const auto* list : {&window.kernel, &window.strides, &window.dilations, &window.begin, &window.end})
      numbers.insert(numbers.end(), list->begin(), list->end());
    numbers.insert(numbers.end(), input.begin(), input.end());
    return numbers;
  }
  static PlaneConvolution unpacked(const std::vector<int64_t>& numbers, at::IntArrayRef filters) {
    const auto rank = static_cast<int64_t>(filters.size()) - 2;
    Window window;
    auto next = numbers.begin() + 1;
    for (auto* list : {&window.kernel, &window.strides, &window.dilations, &window.begin, &window.end}) {
      list->assign(next, next + rank);
      next += rank;
    }
    return PlaneConvolution(window, numbers[0], std::vector<int64_t>(next, numbers.end()), filters);
  }
};

}  // namespace

at::Tensor convolve_with_gradient(const Operation& operation, const at::Tensor& input, const at::Tensor& filters,
                                  const at::Tensor& bias, const ConvGradientOptions& options) {
  const int64_t groups = operation.int_attribute("group", 1);
  const bool fits = input.dim() == filters.dim() && filters.dim() >= 3 && groups > 0 &&
                    filters.size(1) * groups == input.size(1) && filters.numel() <= kMostFactors * groups &&
                    has_grid_rows(filters, options.round_filters.grid.exponents) &&
                    (!bias.defined() || has_grid_rows(bias, options.round_bias.grid.exponents));
  if (fits) {
    const Window window = read_window(operation, input.sizes(), filters.sizes().slice(2).vec());
    if (PlaneConvolution::supports(window, input, filters))
      return ConvGradient::apply(input, filters, bias.defined() ? std::optional(bias) : std::nullopt, window, groups,
                                 options);
  }
  at::Tensor result =
      convolve(operation, input, rounded_with_gradient(filters, options.round_filters, options.rounding),
               bias.defined() ? rounded_with_gradient(bias, options.round_bias, options.rounding) : bias);
  if (options.output.bits == 0) return result;
  return fake_quantize_with_gradient(result, options.output.exponents, -1, options.output.bits, options.rounding, true,
                                     {}, options.relu);
}

}  // namespace espq
