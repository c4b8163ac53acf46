#include "core/ops/resize.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/ops/board/chip_math.h"
#include "core/ops/channel_order.h"
#include "core/ops/kernels/map_floats.h"
#include "core/support/error.h"

namespace espq {
namespace {

/// Step from one output index to the next in the input, float32 as in chip library 3.3.9.
float inverse_step(const ResizePlan& plan, size_t axis, bool align_corners) {
  float scale = plan.scales[axis];
  if (plan.sizes_given) scale = static_cast<float>(plan.output[axis]) / static_cast<float>(plan.input[axis]);
  if (align_corners) {
    scale = static_cast<float>(plan.output[axis] - 1) / static_cast<float>(plan.input[axis] - 1);
  }
  return 1 / scale;
}

/// Nearest neighbour: asymmetric coordinates, floor.
at::Tensor nearest_indices(const ResizePlan& plan, size_t axis) {
  const float step = inverse_step(plan, axis, false);
  std::vector<int64_t> result;
  for (int64_t i = 0; i < plan.output[axis]; ++i) {
    result.push_back(std::min(static_cast<int64_t>(static_cast<float>(i) * step), plan.input[axis] - 1));
  }
  return at::tensor(result, at::kLong);
}

/// A code of nearest Resize moved to the output grid: float32 without saturation on chips without vector unit, a
/// saturating integer shift with an int8 multiplier on the others.
struct NearestRescale {
  float factor;
  bool wraps;
  chip::Rounder round;

  /// `shift`: e_out - e_in.
  NearestRescale(int shift, bool vector, Rounding rounding)
      : factor(std::ldexp(1.0f, -shift)),
        wraps(!vector),
        round(vector ? chip::Rounder(rounding, 8) : chip::Rounder(rounding, -1e6f, 1e6f)) {
    if (vector && shift < 0) factor = shift < -7 ? 0.0f : static_cast<float>(static_cast<int8_t>(1 << -shift));
  }

  float operator()(float code) const {
    const float rounded = round(code * factor);
    return wraps ? static_cast<float>(static_cast<int8_t>(static_cast<int32_t>(rounded))) : rounded;
  }
};

/// Where a linear Resize reads along one axis.
struct LinearTap {
  int64_t low, high;
  float weight_low, weight_high;
};

std::vector<LinearTap> linear_taps(const ResizePlan& plan, size_t axis, bool align_corners) {
  const float step = inverse_step(plan, axis, align_corners);
  const int64_t size = plan.input[axis];
  std::vector<LinearTap> result;
  for (int64_t i = 0; i < plan.output[axis]; ++i) {
    const auto x = static_cast<float>(i);
    float position = align_corners ? x * step : (x + 0.5f) * step - 0.5f;
    auto index = static_cast<int64_t>(std::floor(position));
    position -= static_cast<float>(index);
    if (index < 0) {
      index = 0;
      position = 0;
    }
    if (index >= size - 1) {
      index = size - 2;
      position = 1;
    }
    result.push_back({std::max<int64_t>(index, 0), index + 1, 1.0f - position, position});
  }
  return result;
}

/// Linear Resize of one NHWC image: rows first, then columns, each a * r0 + b * r1 in float32.
struct LinearKernel {
  std::vector<LinearTap> rows, columns;  ///< rows empty for 1-D
  float scale, inverse;
  chip::Rounder round;

  void operator()(const float* from, float* to, int64_t width, int64_t channels) const {
    static const std::vector<LinearTap> one_row = {{0, 0, 1.0f, 0.0f}};
    const bool plane = !rows.empty();
    for (const LinearTap& row : plane ? rows : one_row) {
      const float *upper = from + row.low * width * channels, *lower = from + row.high * width * channels;
      for (const LinearTap& column : columns) {
        pixel(upper + column.low * channels, upper + column.high * channels, lower + column.low * channels,
              lower + column.high * channels, row, column, plane, to, channels);
        to += channels;
      }
    }
  }

 private:
  /// All channels of one output position. Everything is local, so that stores to `to` cannot alias.
  void pixel(const float* upper_left, const float* upper_right, const float* lower_left, const float* lower_right,
             LinearTap row, LinearTap column, bool plane, float* to, int64_t channels) const {
    const float scale_in = scale, scale_out = inverse;
    const chip::Rounder grid = round;
    if (!plane) {
      for (int64_t c = 0; c < channels; ++c) {
        const float value =
            upper_left[c] * scale_in * column.weight_low + upper_right[c] * scale_in * column.weight_high;
        to[c] = grid(value * scale_out);
      }
      return;
    }
    for (int64_t c = 0; c < channels; ++c) {
      const float top = upper_left[c] * scale_in * column.weight_low + upper_right[c] * scale_in * column.weight_high;
      const float bottom =
          lower_left[c] * scale_in * column.weight_low + lower_right[c] * scale_in * column.weight_high;
      to[c] = grid((top * row.weight_low + bottom * row.weight_high) * scale_out);
    }
  }
};

Tensors resize_nearest(const ResizePlan& plan, const at::Tensor& input, const NearestRescale& rescale) {
  at::Tensor x = channels_last(input).contiguous();
  if (rescale.factor != 1.0f) x = map_floats(x, rescale);
  for (size_t axis = 2; axis < plan.input.size(); ++axis) {
    x = x.index_select(static_cast<int64_t>(axis) - 1, nearest_indices(plan, axis));
  }
  return {channels_first(x)};
}

Tensors resize_linear(const ResizePlan& plan, const at::Tensor& input, LinearKernel kernel) {
  const bool align = plan.coordinates == "align_corners";
  const size_t last = plan.input.size() - 1;
  if (last == 3) kernel.rows = linear_taps(plan, 2, align);
  kernel.columns = linear_taps(plan, last, align);
  const at::Tensor x = channels_last(input).contiguous();
  Shape shape = x.sizes().vec();
  for (size_t axis = 2; axis <= last; ++axis) shape[axis - 1] = plan.output[axis];
  at::Tensor result = at::empty(shape, x.options());
  for (int64_t n = 0; n < shape[0]; ++n) {
    kernel(x.const_data_ptr<float>() + n * x.stride(0), result.data_ptr<float>() + n * result.stride(0),
           plan.input[last], shape.back());
  }
  return {channels_first(result)};
}

}  // namespace

BoardKernel resize_board(const BoardContext& context) {
  const Grid &input = context.inputs[0], &output = context.outputs[0];
  const Operation& operation = context.operation;
  user_check(input.bits == 8 && output.bits == 8,
             "operation '{}' (Resize): the chip library has no kernel for 16-bit codes; quantize it with 8 bit",
             operation.name());
  const NearestRescale rescale(output.exponent() - input.exponent(), context.target.vector_unit,
                               context.target.rounding);
  const LinearKernel linear{{},
                            {},
                            chip::scale(input.exponent()),
                            chip::inverse_scale(output.exponent()),
                            chip::Rounder(context.target.rounding, 8)};
  return [&operation, rescale, linear](const Tensors& in) -> Tensors {
    const ResizePlan plan = plan_resize(operation, in);
    user_check(in[0].dim() == 3 || in[0].dim() == 4, "operation '{}' (Resize): the chip resizes tensors of 3 or 4 axes",
               operation.name());
    if (plan.mode == "nearest") return resize_nearest(plan, in[0], rescale);
    user_check(plan.mode == "linear", "operation '{}' (Resize): the chip library has no mode '{}'", operation.name(),
               plan.mode);
    return resize_linear(plan, in[0], linear);
  };
}

}  // namespace espq
