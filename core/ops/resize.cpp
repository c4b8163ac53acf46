#include <cmath>

#include "core/ops/arguments.h"
#include "core/ops/chip_math.h"
#include "core/ops/entry.h"
#include "core/ops/families.h"
#include "core/ops/map_floats.h"
#include "core/support/error.h"

namespace espq {
namespace {

using Type = AttributeSpec::Type;

// ---------------------------------------------------------------------------------------------- operands
/// What a Resize asks for, with one entry per axis of the input.
struct ResizePlan {
  std::string mode, coordinates, nearest_mode;
  std::vector<int64_t> input, output;
  std::vector<float> scales;
  std::vector<double> roi_start, roi_end;
  bool sizes_given = false, exclude_outside = false, antialias = false;
  float cubic_coefficient = -0.75f, extrapolation = 0;
};

std::vector<int64_t> resized_axes(const Operation& operation, int64_t rank) {
  std::vector<int64_t> axes = operation.ints_attribute("axes", {});
  if (!axes.empty()) return wrap_axes(operation, axes, rank);
  for (int64_t i = 0; i < rank; ++i) axes.push_back(i);
  return axes;
}

void apply_sizes(const Operation& operation, const std::vector<int64_t>& sizes, const std::vector<int64_t>& axes,
                 ResizePlan& plan) {
  user_check(sizes.size() == axes.size(), "operation '{}' (Resize): {} sizes were given for {} axes", operation.name(),
             sizes.size(), axes.size());
  plan.sizes_given = true;
  const std::string policy = operation.string_attribute("keep_aspect_ratio_policy", "stretch");
  float common = 0;
  for (size_t i = 0; i < axes.size(); ++i) {
    const float ratio = static_cast<float>(sizes[i]) / static_cast<float>(plan.input[axes[i]]);
    plan.output[axes[i]] = sizes[i];
    plan.scales[axes[i]] = ratio;
    common = i == 0 ? ratio : policy == "not_larger" ? std::min(common, ratio) : std::max(common, ratio);
  }
  if (policy == "stretch") return;
  user_check(policy == "not_larger" || policy == "not_smaller",
             "operation '{}' (Resize): unknown keep_aspect_ratio_policy '{}'", operation.name(), policy);
  for (const int64_t axis : axes) {
    plan.scales[axis] = common;
    plan.output[axis] = static_cast<int64_t>(std::floor(common * static_cast<float>(plan.input[axis]) + 0.5f));
  }
}

ResizePlan make_plan(const Operation& operation, const Tensors& in) {
  ResizePlan plan;
  plan.mode = operation.string_attribute("mode");
  plan.coordinates = operation.string_attribute("coordinate_transformation_mode");
  plan.nearest_mode = operation.string_attribute("nearest_mode");
  plan.exclude_outside = operation.int_attribute("exclude_outside", 0) != 0;
  plan.antialias = operation.int_attribute("antialias", 0) != 0;
  plan.cubic_coefficient = operation.float_attribute("cubic_coeff_a", -0.75f);
  plan.extrapolation = operation.float_attribute("extrapolation_value", 0.0f);
  plan.input = plan.output = in[0].sizes().vec();
  plan.scales.assign(plan.input.size(), 1.0f);
  plan.roi_start.assign(plan.input.size(), 0.0);
  plan.roi_end.assign(plan.input.size(), 1.0);
  const std::vector<int64_t> axes = resized_axes(operation, in[0].dim());
  if (has_input(in, 3) && in[3].numel()) {
    apply_sizes(operation, to_integers(in[3]), axes, plan);
  } else {
    user_check(has_input(in, 2) && in[2].numel() == static_cast<int64_t>(axes.size()),
               "operation '{}' (Resize): needs sizes, or one scale for each of {} axes", operation.name(), axes.size());
    const std::vector<double> scales = to_doubles(in[2]);
    for (size_t i = 0; i < axes.size(); ++i) {
      plan.scales[axes[i]] = static_cast<float>(scales[i]);
      plan.output[axes[i]] =
          static_cast<int64_t>(std::floor(static_cast<float>(plan.input[axes[i]]) * plan.scales[axes[i]]));
    }
  }
  if (plan.coordinates == "tf_crop_and_resize" && has_input(in, 1) && in[1].numel()) {
    const std::vector<double> roi = to_doubles(in[1]);
    user_check(roi.size() == 2 * axes.size(),
               "operation '{}' (Resize): roi needs a start and an end for each of {} axes", operation.name(),
               axes.size());
    for (size_t i = 0; i < axes.size(); ++i) {
      plan.roi_start[axes[i]] = roi[i];
      plan.roi_end[axes[i]] = roi[i + axes.size()];
    }
  }
  return plan;
}

// ---------------------------------------------------------------------------------------------- one axis
/// Position in the input of output element x. Lengths that a fractional scale makes fractional stay so, as in ONNX's
/// reference implementation.
double source_position(const Operation& operation, const ResizePlan& plan, size_t axis, double x) {
  const double scale = plan.scales[axis], input = static_cast<double>(plan.input[axis]);
  const double length = scale * input;
  const std::string& mode = plan.coordinates;
  const double half_pixel = (x + 0.5) / scale - 0.5;
  if (mode == "half_pixel") return half_pixel;
  if (mode == "asymmetric") return x / scale;
  if (mode == "align_corners") return length == 1 ? 0 : x * (input - 1) / (length - 1);
  if (mode == "pytorch_half_pixel") return length == 1 ? -0.5 : half_pixel;
  if (mode == "half_pixel_symmetric") {
    const double adjustment = static_cast<double>(plan.output[axis]) / length;
    return input / 2 * (1 - adjustment) + half_pixel;
  }
  user_check(mode == "tf_crop_and_resize", "operation '{}' (Resize): unknown coordinate_transformation_mode '{}'",
             operation.name(), mode);
  const double start = plan.roi_start[axis], extent = plan.roi_end[axis] - start;
  if (length == 1) return start * (input - 1) + extent * (input - 1) / 2;
  return start * (input - 1) + x * extent * (input - 1) / (length - 1);
}

/// Neighbours first, first + 1, ... of one output element and their weights.
struct Taps {
  int64_t first = 0;
  std::vector<double> weights;
};

double cubic_weight(double distance, double a) {
  const double x = std::abs(distance);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return 0;
}

Taps nearest_tap(const Operation& operation, const ResizePlan& plan, double position) {
  const double below = std::floor(position), fraction = position - below;
  const std::string& mode = plan.nearest_mode;
  bool up = false;
  if (mode == "round_prefer_floor") {
    up = fraction > 0.5;
  } else if (mode == "round_prefer_ceil") {
    up = fraction >= 0.5;
  } else if (mode == "ceil") {
    up = fraction > 0;
  } else {
    user_check(mode == "floor", "operation '{}' (Resize): unknown nearest_mode '{}'", operation.name(), mode);
  }
  return {static_cast<int64_t>(below) + up, {1.0}};
}

Taps taps(const Operation& operation, const ResizePlan& plan, size_t axis, double position) {
  if (plan.mode == "nearest") return nearest_tap(operation, plan, position);
  const bool cubic = plan.mode == "cubic";
  user_check(cubic || plan.mode == "linear", "operation '{}' (Resize): unknown mode '{}'; use nearest, linear or cubic",
             operation.name(), plan.mode);
  const double support = cubic ? 2 : 1;
  // Antialiasing widens the filter when the axis shrinks.
  const double stretch = plan.antialias ? std::min<double>(plan.scales[axis], 1.0) : 1.0;
  const auto base = static_cast<int64_t>(std::ceil(position)) - 1;
  const auto begin = static_cast<int64_t>(std::floor(-support / stretch)) + 1;
  const int64_t count = 2 * static_cast<int64_t>(support) - 2 * begin - (cubic ? 2 : 0);
  Taps result{base + begin, {}};
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double distance = stretch * (static_cast<double>(base + begin + i) - position);
    const double weight =
        cubic ? cubic_weight(distance, plan.cubic_coefficient) : std::max(0.0, 1 - std::abs(distance));
    result.weights.push_back(weight);
    sum += weight;
  }
  if (plan.antialias)
    for (double& weight : result.weights) weight /= sum;
  return result;
}

void exclude_outside(Taps& element, int64_t size) {
  double sum = 0;
  for (size_t i = 0; i < element.weights.size(); ++i) {
    const int64_t index = element.first + static_cast<int64_t>(i);
    if (index < 0 || index >= size) element.weights[i] = 0;
    sum += element.weights[i];
  }
  for (double& weight : element.weights) weight /= sum;
}

at::Tensor along(const at::Tensor& values, int64_t axis, int64_t rank) {
  Shape shape(rank, 1);
  shape[axis] = values.numel();
  return values.reshape(shape);
}

at::Tensor resize_axis(const Operation& operation, const ResizePlan& plan, size_t axis, const at::Tensor& x) {
  const int64_t size = plan.input[axis], count = plan.output[axis];
  std::vector<Taps> elements;
  std::vector<uint8_t> outside;
  size_t width = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double position = source_position(operation, plan, axis, static_cast<double>(i));
    outside.push_back(position < 0 || position > static_cast<double>(size - 1));
    elements.push_back(taps(operation, plan, axis, position));
    if (plan.exclude_outside && plan.mode != "nearest") exclude_outside(elements.back(), size);
    width = std::max(width, elements.back().weights.size());
  }
  const auto dim = static_cast<int64_t>(axis);
  at::Tensor result;
  for (size_t tap = 0; tap < width; ++tap) {
    std::vector<int64_t> index;
    std::vector<float> weight;
    for (const Taps& element : elements) {
      index.push_back(std::clamp<int64_t>(element.first + static_cast<int64_t>(tap), 0, size - 1));
      weight.push_back(static_cast<float>(element.weights[tap]));
    }
    at::Tensor part = x.index_select(dim, at::tensor(index, at::kLong).to(x.device()));
    if (plan.mode != "nearest") part = part * along(at::tensor(weight).to(x.options()), dim, x.dim());
    result = result.defined() ? result + part : part;
  }
  if (plan.coordinates == "tf_crop_and_resize") {
    const at::Tensor mask = along(at::tensor(outside, at::kByte).to(x.device(), at::kBool), dim, x.dim());
    result = at::where(mask, at::scalar_tensor(plan.extrapolation, x.options()), result);
  }
  return result;
}

// ---------------------------------------------------------------------------------------------- forward
/// LibTorch's own kernels, for what they compute by the same formula. Undefined when they do not.
at::Tensor interpolate(const ResizePlan& plan, const at::Tensor& x, bool chip) {
  const int64_t rank = x.dim();
  if (rank < 3 || rank > 4 || plan.output[0] != plan.input[0] || plan.output[1] != plan.input[1]) return {};
  if (!x.is_floating_point() || x.numel() == 0) return {};
  const std::vector<int64_t> size(plan.output.begin() + 2, plan.output.end());
  const auto factor = [&](size_t axis) -> std::optional<double> {
    return plan.sizes_given ? std::nullopt : std::optional<double>(plan.scales[axis]);
  };
  if (plan.mode == "nearest") {
    if (!chip) return {};  // its indices are products with a rounded 1 / scale
    return rank == 3 ? at::upsample_nearest1d(x, size, factor(2))
                     : at::upsample_nearest2d(x, size, factor(2), factor(3));
  }
  const bool align = plan.coordinates == "align_corners";
  if (!chip && (align || plan.coordinates != "half_pixel" || plan.exclude_outside || plan.antialias)) return {};
  if (plan.mode == "linear") {
    return rank == 3 ? at::upsample_linear1d(x, size, align, factor(2))
                     : at::upsample_bilinear2d(x, size, align, factor(2), factor(3));
  }
  if (plan.mode == "cubic" && rank == 4 && plan.cubic_coefficient == -0.75f) {
    return at::upsample_bicubic2d(x, size, align, factor(2), factor(3));
  }
  return {};
}

Tensors resize(const ForwardContext& context, const Tensors& in) {
  const ResizePlan plan = make_plan(context.operation, in);
  if (const at::Tensor result = interpolate(plan, in[0], context.chip); result.defined()) return one(result);
  at::Tensor result = in[0];
  for (size_t axis = 0; axis < plan.input.size(); ++axis) {
    const bool cropped = plan.roi_start[axis] != 0 || plan.roi_end[axis] != 1;
    if (plan.output[axis] == plan.input[axis] && plan.scales[axis] == 1 && !cropped) continue;
    result = resize_axis(context.operation, plan, axis, result);
  }
  return one(result);
}

// ---------------------------------------------------------------------------------------------- exact kernels
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

at::Tensor channels_last(const at::Tensor& x) {
  return (x.dim() == 4 ? x.permute({0, 2, 3, 1}) : x.permute({0, 2, 1})).contiguous();
}

at::Tensor channels_first(const at::Tensor& x) { return x.dim() == 4 ? x.permute({0, 3, 1, 2}) : x.permute({0, 2, 1}); }

Tensors resize_nearest(const ResizePlan& plan, const at::Tensor& input, const NearestRescale& rescale) {
  at::Tensor x = channels_last(input);
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
  const at::Tensor x = channels_last(input);
  Shape shape = x.sizes().vec();
  for (size_t axis = 2; axis <= last; ++axis) shape[axis - 1] = plan.output[axis];
  at::Tensor result = at::empty(shape, x.options());
  for (int64_t n = 0; n < shape[0]; ++n) {
    kernel(x.const_data_ptr<float>() + n * x.stride(0), result.data_ptr<float>() + n * result.stride(0),
           plan.input[last], shape.back());
  }
  return {channels_first(result)};
}

BoardKernel resize_board(const BoardContext& context) {
  const Grid &input = context.inputs[0], &output = context.outputs[0];
  const Operation& operation = context.operation;
  user_check(input.bits == 8 && output.bits == 8,
             "operation '{}' (Resize): the chip library has no kernel for 16-bit codes; quantize it with 8 bit",
             operation.name());
  const NearestRescale rescale(output.exponent() - input.exponent(), context.target.simd != SimdFamily::None,
                               context.target.rounding);
  const LinearKernel linear{{},
                            {},
                            chip::scale(input.exponent()),
                            chip::inverse_scale(output.exponent()),
                            chip::Rounder(context.target.rounding, 8)};
  return [&operation, rescale, linear](const Tensors& in) -> Tensors {
    const ResizePlan plan = make_plan(operation, in);
    user_check(in[0].dim() == 3 || in[0].dim() == 4, "operation '{}' (Resize): the chip resizes tensors of 3 or 4 axes",
               operation.name());
    if (plan.mode == "nearest") return resize_nearest(plan, in[0], rescale);
    user_check(plan.mode == "linear", "operation '{}' (Resize): the chip library has no mode '{}'", operation.name(),
               plan.mode);
    return resize_linear(plan, in[0], linear);
  };
}

}  // namespace

void register_resize_operators(Registry& registry) {
  OperatorDefinition result;
  result.name = "Resize";
  result.inputs = {{"X"},
                   {.name = "roi", .role = OperandRole::Index, .optional = true},
                   {.name = "scales", .role = OperandRole::Index, .optional = true},
                   {.name = "sizes", .role = OperandRole::Index, .optional = true}};
  result.outputs = {{"Y"}};
  result.attributes = {text("mode", "nearest"),
                       text("coordinate_transformation_mode", "half_pixel"),
                       text("nearest_mode", "round_prefer_floor"),
                       text("keep_aspect_ratio_policy", "stretch"),
                       {.name = "axes", .type = Type::Ints},
                       {.name = "antialias", .type = Type::Int, .fallback = Attribute(int64_t{0})},
                       {.name = "cubic_coeff_a", .type = Type::Float, .fallback = Attribute(-0.75f)},
                       {.name = "exclude_outside", .type = Type::Int, .fallback = Attribute(int64_t{0})},
                       {.name = "extrapolation_value", .type = Type::Float, .fallback = Attribute(0.0f)}};
  result.forward = resize;
  result.board = resize_board;
  result.quantization.quantizable = true;
  result.quantization.alignment = AlignmentClass::Resize;
  result.layout = LayoutRule::Resize;
  result.chip = {
      .registered = true,
      .int8 = true,
      .note = "nearest = asymmetric, floor; linear = half_pixel or align_corners; no cubic; spatial axes only"};
  registry.add(std::move(result));
}

}  // namespace espq
