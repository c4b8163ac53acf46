#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <limits>

#include "core/ops/arguments.h"
#include "core/ops/board/chip_math.h"
#include "core/ops/families.h"
#include "core/ops/kernels/map_floats.h"
#include "core/ops/limits.h"
#include "core/ops/row.h"
#include "core/ops/training/max_pool_gradient.h"
#include "core/ops/training/training.h"
#include "core/ops/window.h"
#include "core/ops/window_limits.h"
#include "core/support/error.h"

namespace espq {
namespace {

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

/// A MaxPool as a pool of planes that have their padding, where LibTorch does not pad them as it is asked.
struct PlanePool {
  Window window;
  at::Tensor padded;
  bool direct, line;  ///< `line`: [N, C, W]

  PlanePool(const Operation& operation, const at::Tensor& given) {
    const at::Tensor input = as_planes(given.is_floating_point() ? given : given.to(at::kFloat));
    const Window declared = pool_window(operation, given);
    line = declared.rank() == 1;
    window = plane_window(declared);
    window.end = closed_end(window, input.sizes(), operation.int_attribute("ceil_mode", 0) != 0);
    direct = window.symmetric() && half_covered(window);
    padded = direct ? input : pad_spatial(input, window.begin, window.end, -std::numeric_limits<double>::infinity());
  }
  std::vector<int64_t> padding() const { return direct ? window.begin : std::vector<int64_t>(window.rank(), 0); }
  at::Tensor finish(const at::Tensor& tensor) const { return line ? tensor.squeeze(2) : tensor; }
};

Tensors max_pool_forward(const ForwardContext& context, const Tensors& inputs) {
  const Operation& operation = context.operation;
  const at::Tensor& given = inputs[0];
  const PlanePool pool(operation, given);
  auto [maximum, index] = max_pool(pool.padded, pool.window, pool.padding());
  Tensors results = {pool.finish(maximum).to(given.scalar_type())};
  if (operation.outputs().size() > 1 && operation.output(1)) {
    Window shift = pool.window;  // a direct call already counts positions without padding
    if (pool.direct) shift.begin.assign(shift.rank(), 0);
    results.push_back(
        pool.finish(global_index(operation, index, shift, as_planes(given).sizes(), pool.padded.sizes())));
  }
  return results;
}

TrainingNode max_pool_training(const TrainingContext& context) {
  if (!context.forward.chip) return nullptr;
  return [context](const Tensors& in) {
    const at::Tensor x = context.operand(in, 0);
    if (at::GradMode::is_enabled() && x.requires_grad()) {
      const PlanePool pool(context.forward.operation, x);
      Window window = pool.window;
      window.begin = pool.padding();
      const at::Tensor result = max_pool_with_gradient(pool.padded, window);
      if (result.defined()) return context.finished(pool.finish(result));
    }
    return context.finished(max_pool_forward(context.forward, {x})[0]);
  };
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

// ------------------------------------------------------------------------------------------------ definitions
const Limit kIndices{.what = "the output Indices",
                     .remedy = "unpool with Resize or ConvTranspose, which need no places, and leave the output out",
                     .asked = [](const Operation& operation, const Deployment&, Width) {
                       return operation.outputs().size() > 1 && operation.output(1) != nullptr;
                     }};

/// The limits of every pool and those of one.
std::vector<Limit> pool_limits_and(Limit more) {
  std::vector<Limit> limits = pool_limits();
  limits.push_back(more);
  return limits;
}

std::vector<AttributeSpec> window_attributes(AttributeSpec more) {
  return {text("auto_pad", "NOTSET"),
          integer("ceil_mode", 0),
          integers("dilations"),
          required(integers("kernel_shape")),
          integers("pads"),
          stated(integers("strides")),
          std::move(more)};
}

}  // namespace

Operators pooling_operators() {
  return {
      {.name = "MaxPool",
       .inputs = {{"X"}},
       .outputs = {{"Y"}, optional("Indices")},
       .attributes = window_attributes(integer("storage_order", 0)),
       .forward = max_pool_forward,
       .quantization = {.quantizable = true, .passive = true},
       .layout = LayoutRule::ChannelsLast,
       .chip = {.board = board_on_codes,
                .kernels = kIntegerWidths,
                .limits = pool_limits_and(kIndices),
                .note = "auto_pad, ceil_mode and dilations are never read"},
       .training = {.node = max_pool_training}},
      {.name = "AveragePool",
       .inputs = {{"X"}},
       .outputs = {{"Y"}},
       .attributes = window_attributes(integer("count_include_pad", 0)),
       .forward = average_pool_forward,
       .quantization = {.quantizable = true, .alignment = AlignmentClass::Pooling},
       .layout = LayoutRule::ChannelsLast,
       .chip = {.board = average_pool_board,
                .kernels = kAllWidths,
                .limits = pool_limits_and(kPartialArea),
                .note = "divides by the whole kernel area; auto_pad, ceil_mode, dilations and count_include_pad are "
                        "never read"}},
      {.name = "GlobalMaxPool",
       .inputs = {{"X"}},
       .outputs = {{"Y"}},
       .forward = global_max_forward,
       .quantization = {.quantizable = true, .passive = true},
       .layout = LayoutRule::ChannelsLast,
       .chip = {.board = board_on_codes}},
      {.name = "GlobalAveragePool",
       .inputs = {{"X"}},
       .outputs = {{"Y"}},
       .forward = global_average_forward,
       .quantization = {.quantizable = true, .alignment = AlignmentClass::Pooling},
       .layout = LayoutRule::ChannelsLast,
       .chip = {.board = global_average_board, .kernels = kAllWidths, .limits = {kSpatialAxes, kOneSample}}},
  };
}

}  // namespace espq
