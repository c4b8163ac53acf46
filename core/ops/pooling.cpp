#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <limits>

#include "core/ops/arguments.h"
#include "core/ops/chip_math.h"
#include "core/ops/families.h"
#include "core/ops/map_floats.h"
#include "core/ops/max_pool_gradient.h"
#include "core/ops/window.h"
#include "core/support/error.h"

namespace espq {
namespace {

using Type = AttributeSpec::Type;

/// [N, C, W] -> [N, C, 1, W]: LibTorch's 2-D pools know every option.
at::Tensor as_planes(const at::Tensor& tensor) { return tensor.dim() == 3 ? tensor.unsqueeze(2) : tensor; }

Window pool_window(const Operation& operation, const at::Tensor& input) {
  return read_window(operation, input.sizes(), operation.ints_attribute("kernel_shape"));
}

/// The window of a 1-D pool as one of a plane of height 1.
Window plane_window(Window window) {
  if (window.rank() != 1) return window;
  window.kernel.insert(window.kernel.begin(), 1);
  window.strides.insert(window.strides.begin(), 1);
  window.dilations.insert(window.dilations.begin(), 1);
  window.begin.insert(window.begin.begin(), 0);
  window.end.insert(window.end.begin(), 0);
  return window;
}

/// Padding behind with which the floor rule gives the output length that ceil_mode asks for: the last window starts
/// inside the input or the padding in front.
std::vector<int64_t> closed_end(const Window& window, at::IntArrayRef input, bool ceil_mode) {
  std::vector<int64_t> end = window.end;
  if (!ceil_mode) return end;
  for (size_t axis = 0; axis < window.rank(); ++axis) {
    const int64_t length = input[axis + 2], stride = window.strides[axis];
    const int64_t room = length + window.begin[axis] + end[axis] - window.reach(axis);
    int64_t outputs = (room + stride - 1) / stride + 1;
    if ((outputs - 1) * stride >= length + window.begin[axis]) --outputs;
    if (outputs != room / stride + 1)
      end[axis] = (outputs - 1) * stride + window.reach(axis) - length - window.begin[axis];
  }
  return end;
}

bool half_covered(const Window& window) {
  for (size_t axis = 0; axis < window.rank(); ++axis)
    if (2 * window.begin[axis] > window.reach(axis)) return false;
  return true;
}

// ------------------------------------------------------------------------------------------------ MaxPool
using MaximumAndIndex = std::tuple<at::Tensor, at::Tensor>;

MaximumAndIndex max_pool(const at::Tensor& input, const Window& window, at::IntArrayRef padding) {
  return window.rank() == 3
             ? at::max_pool3d_with_indices(input, window.kernel, window.strides, padding, window.dilations)
             : at::max_pool2d_with_indices(input, window.kernel, window.strides, padding, window.dilations);
}

/// Index into the padded plane of one channel -> index into the whole input tensor, as the standard counts.
at::Tensor global_index(const Operation& operation, at::Tensor index, const Window& window, at::IntArrayRef input,
                        at::IntArrayRef padded) {
  const bool column_major = operation.int_attribute("storage_order", 0) != 0;
  at::Tensor result = at::zeros_like(index);
  int64_t plane = 1, column_step = 1;
  for (size_t axis = window.rank(); axis-- > 0;) {
    const at::Tensor coordinate = index.remainder(padded[axis + 2]) - window.begin[axis];
    index = index.div(padded[axis + 2], "floor");
    result = result + coordinate * (column_major ? 0 : plane);
    plane *= input[axis + 2];
    if (!column_major) continue;
    column_step = 1;
    for (size_t faster = 0; faster < axis; ++faster) column_step *= input[faster + 2];
    result = result + coordinate * column_step;
  }
  std::vector<int64_t> shape(index.dim(), 1);
  shape[0] = input[0];
  shape[1] = input[1];
  return result + at::arange(input[0] * input[1], at::kLong).reshape(shape) * plane;
}

Tensors max_pool_forward(const ForwardContext& context, const Tensors& inputs) {
  const Operation& operation = context.operation;
  const at::Tensor& given = inputs[0];
  const at::Tensor input = as_planes(given.is_floating_point() ? given : given.to(at::kFloat));
  const Window declared = pool_window(operation, given);
  Window window = plane_window(declared);
  window.end = closed_end(window, input.sizes(), operation.int_attribute("ceil_mode", 0) != 0);
  const bool direct = window.symmetric() && half_covered(window);
  const at::Tensor padded =
      direct ? input : pad_spatial(input, window.begin, window.end, -std::numeric_limits<double>::infinity());
  const std::vector<int64_t> none(window.rank(), 0);
  const auto finish = [&](const at::Tensor& tensor) { return declared.rank() == 1 ? tensor.squeeze(2) : tensor; };
  const bool wants_index = operation.outputs().size() > 1 && operation.output(1);
  if (context.chip && !wants_index && at::GradMode::is_enabled() && padded.requires_grad()) {
    Window whole = window;
    if (!direct) whole.begin = none;
    if (const at::Tensor result = max_pool_with_gradient(padded, whole); result.defined()) return {finish(result)};
  }
  auto [maximum, index] = max_pool(padded, window, direct ? window.begin : none);
  Tensors results = {finish(maximum).to(given.scalar_type())};
  if (wants_index) {
    Window shift = window;  // a direct call already counts positions without padding
    if (direct) shift.begin = none;
    results.push_back(finish(global_index(operation, index, shift, input.sizes(), padded.sizes())));
  }
  return results;
}

// ------------------------------------------------------------------------------------------------ AveragePool
/// Sum under each window for windows that LibTorch's pools do not know (dilated or unevenly padded).
at::Tensor window_sums(const at::Tensor& padded, const Window& window) {
  std::vector<int64_t> planes = padded.sizes().vec();
  planes[0] *= planes[1];
  planes[1] = 1;
  std::vector<int64_t> kernel = window.kernel;
  kernel.insert(kernel.begin(), {1, 1});
  const std::vector<int64_t> none(window.rank(), 0);
  const at::Tensor sums = at::convolution(padded.reshape(planes), at::ones(kernel, padded.options()), {},
                                          window.strides, none, window.dilations, false, none, 1);
  std::vector<int64_t> shape = sums.sizes().vec();
  shape[0] = padded.size(0);
  shape[1] = padded.size(1);
  return sums.reshape(shape);
}

/// Elements that each window of the standard's AveragePool divides by.
at::Tensor window_counts(const at::Tensor& input, const Window& window, const std::vector<int64_t>& end,
                         bool include_padding) {
  std::vector<int64_t> shape = input.sizes().vec(), extra = end;
  shape[0] = shape[1] = 1;
  std::vector<int64_t> begin = window.begin;
  if (include_padding)
    for (size_t axis = 0; axis < window.rank(); ++axis) {
      shape[axis + 2] += window.begin[axis] + window.end[axis];
      begin[axis] = 0;
      extra[axis] = end[axis] - window.end[axis];
    }
  return window_sums(pad_spatial(at::ones(shape, input.options()), begin, extra, 0), window);
}

/// Sums (divisor 1) or averages of a plane or volume; `divisor` 0 = by the standard's rule.
at::Tensor pool_average(const Operation& operation, const at::Tensor& given, int64_t divisor) {
  const at::Tensor input = as_planes(given);
  const Window declared = pool_window(operation, given), window = plane_window(declared);
  const bool ceil_mode = operation.int_attribute("ceil_mode", 0) != 0;
  const bool include = operation.int_attribute("count_include_pad", 0) != 0;
  const std::optional<int64_t> fixed = divisor ? std::optional(divisor) : std::nullopt;
  at::Tensor result;
  if (!window.dilated() && window.symmetric() && half_covered(window)) {
    const auto pool = window.rank() == 3 ? at::avg_pool3d : at::avg_pool2d;
    result = pool(input, window.kernel, window.strides, window.begin, ceil_mode, include, fixed);
  } else {
    const std::vector<int64_t> end = closed_end(window, input.sizes(), ceil_mode);
    result = window_sums(pad_spatial(input, window.begin, end, 0), window);
    if (divisor == 0) result = result / window_counts(input, window, end, include);
    if (divisor > 1) result = result / static_cast<double>(divisor);
  }
  return declared.rank() == 1 ? result.squeeze(2) : result;
}

int64_t kernel_area(const Operation& operation) {
  int64_t area = 1;
  for (int64_t length : operation.ints_attribute("kernel_shape")) area *= length;
  return area;
}

/// The chip divides by the whole kernel area whatever count_include_pad says.
Tensors average_pool_forward(const ForwardContext& context, const Tensors& inputs) {
  return {pool_average(context.operation, inputs[0], context.chip ? kernel_area(context.operation) : 0)};
}

/// y = round(float(sum) * (2^e_in * (1 / area) * 2^-e_out)), the factor in float32 from left to right.
class ScaledSum {
 public:
  explicit ScaledSum(const BoardContext& context)
      : largest_(-quant_min(context.inputs.at(0).bits)),
        scale_(chip::scale(context.inputs[0].exponent())),
        inverse_(chip::inverse_scale(context.outputs.at(0).exponent())),
        round_(context.target.rounding, context.outputs[0].bits) {}

  /// `sum` gives sums of `area` codes each; they are taken in float64 where float32 would round.
  template <typename Sum>
  at::Tensor operator()(const at::Tensor& codes, int64_t area, Sum sum) const {
    const bool wide = static_cast<double>(area) * largest_ > (1 << 24);
    const at::Tensor sums = wide ? sum(codes.to(at::kDouble)).to(at::kFloat) : sum(codes);
    const float factor = scale_ * (1.0f / static_cast<float>(area)) * inverse_;
    return map_floats(sums, [=, round = round_](float value) { return round(value * factor); });
  }

 private:
  double largest_;
  float scale_, inverse_;
  chip::Rounder round_;
};

bool on_grids(const BoardContext& context) {
  return context.inputs.at(0).quantized() && context.outputs.at(0).quantized();
}

BoardKernel average_pool_board(const BoardContext& context) {
  if (!on_grids(context)) return board_on_values(context);
  const Operation& operation = context.operation;
  return [&operation, average = ScaledSum(context), area = kernel_area(operation)](const Tensors& inputs) -> Tensors {
    return {average(inputs[0], area, [&](const at::Tensor& codes) { return pool_average(operation, codes, 1); })};
  };
}

// ------------------------------------------------------------------------------------------------ global pools
std::vector<int64_t> spatial_axes(const at::Tensor& input) {
  std::vector<int64_t> axes;
  for (int64_t axis = 2; axis < input.dim(); ++axis) axes.push_back(axis);
  return axes;
}

Tensors global_max_forward(const ForwardContext&, const Tensors& inputs) {
  const auto axes = spatial_axes(inputs[0]);
  return {axes.empty() ? inputs[0] : at::amax(inputs[0], axes, true)};
}

Tensors global_average_forward(const ForwardContext&, const Tensors& inputs) {
  const auto axes = spatial_axes(inputs[0]);
  return {axes.empty() ? inputs[0] : at::mean(inputs[0], axes, true)};
}

BoardKernel global_average_board(const BoardContext& context) {
  if (!on_grids(context)) return board_on_values(context);
  return [average = ScaledSum(context)](const Tensors& inputs) -> Tensors {
    const auto axes = spatial_axes(inputs[0]);
    int64_t area = 1;
    for (int64_t axis : axes) area *= inputs[0].size(axis);
    return {average(inputs[0], area, [&](const at::Tensor& codes) { return at::sum(codes, axes, true); })};
  };
}

// ------------------------------------------------------------------------------------------------ table
std::vector<AttributeSpec> window_attributes(std::vector<AttributeSpec> more) {
  std::vector<AttributeSpec> attributes = {
      {.name = "auto_pad", .type = Type::String, .fallback = Attribute(std::string("NOTSET"))},
      {.name = "ceil_mode", .type = Type::Int, .fallback = Attribute(int64_t{0})},
      {.name = "dilations", .type = Type::Ints},
      {.name = "kernel_shape", .type = Type::Ints, .required = true},
      {.name = "pads", .type = Type::Ints},
      {.name = "strides", .type = Type::Ints}};
  attributes.insert(attributes.end(), more.begin(), more.end());
  return attributes;
}

OperatorDefinition pool(std::string_view name, ForwardFunction forward, BoardFactory board) {
  OperatorDefinition definition;
  definition.name = name;
  definition.inputs = {{.name = "X"}};
  definition.outputs = {{.name = "Y"}};
  definition.forward = forward;
  definition.board = board;
  definition.quantization = {.quantizable = true};
  definition.layout = LayoutRule::ChannelsLast;
  definition.chip = {.registered = true, .int8 = true, .int16 = true};
  return definition;
}

}  // namespace

void register_pooling_operators(Registry& registry) {
  OperatorDefinition maximum = pool("MaxPool", max_pool_forward, board_on_codes);
  maximum.outputs.push_back({.name = "Indices", .optional = true});
  maximum.attributes =
      window_attributes({{.name = "storage_order", .type = Type::Int, .fallback = Attribute(int64_t{0})}});
  maximum.quantization.passive = true;
  maximum.chip.note = "1-D and 2-D; no dilation; ceil_mode is ignored (output size by floor)";
  registry.add(std::move(maximum));

  OperatorDefinition average = pool("AveragePool", average_pool_forward, average_pool_board);
  average.attributes =
      window_attributes({{.name = "count_include_pad", .type = Type::Int, .fallback = Attribute(int64_t{0})}});
  average.quantization.alignment = AlignmentClass::Pooling;
  average.chip.float32 = true;
  average.chip.note = "1-D and 2-D; no dilation; divides by the whole kernel area; ceil_mode is ignored";
  registry.add(std::move(average));

  OperatorDefinition global_maximum = pool("GlobalMaxPool", global_max_forward, board_on_codes);
  global_maximum.quantization.passive = true;
  global_maximum.chip = {};
  registry.add(std::move(global_maximum));

  OperatorDefinition global_average = pool("GlobalAveragePool", global_average_forward, global_average_board);
  global_average.quantization.alignment = AlignmentClass::Pooling;
  global_average.chip.float32 = true;
  global_average.chip.note = "1-D and 2-D";
  registry.add(std::move(global_average));
}

}  // namespace espq
