#include "core/ops/resize.h"

#include <algorithm>
#include <cmath>

#include "core/graph/match.h"
#include "core/ops/arguments.h"
#include "core/ops/families.h"
#include "core/ops/limits.h"
#include "core/ops/row.h"
#include "core/support/error.h"

namespace espq {
namespace {

// ---------------------------------------------------------------------------------------------- operands
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

}  // namespace

ResizePlan plan_resize(const Operation& operation, const Tensors& in) {
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
  for (size_t axis = 0; axis < plan.output.size(); ++axis)
    user_check(plan.output[axis] > 0 || plan.input[axis] == 0,
               "operation '{}' (Resize): nothing is left of axis {}, which has {} elements", operation.name(), axis,
               plan.input[axis]);
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

namespace {

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
  const ResizePlan plan = plan_resize(context.operation, in);
  if (const at::Tensor result = interpolate(plan, in[0], context.chip); result.defined()) return one(result);
  at::Tensor result = in[0];
  for (size_t axis = 0; axis < plan.input.size(); ++axis) {
    const bool cropped = plan.roi_start[axis] != 0 || plan.roi_end[axis] != 1;
    if (plan.output[axis] == plan.input[axis] && plan.scales[axis] == 1 && !cropped) continue;
    result = resize_axis(context.operation, plan, axis, result);
  }
  return one(result);
}

// ---------------------------------------------------------------------------------------------- limits
const Limit kCubic{.what = "mode cubic",
                   .remedy = "use nearest or linear",
                   .asked = [](const Operation& operation, const Deployment&, Width) {
                     return operation.string_attribute("mode", "nearest") == "cubic";
                   }};
const Limit kOtherAxes{.what = "a change of batch or channels",
                       .remedy = "resize the spatial axes only",
                       .asked = [](const Operation& operation, const Deployment&, Width) {
                         const auto from = image_shape(operation, operation.input(0));
                         const auto to = image_shape(operation, operation.output());
                         return from && to && from->size() > 2 && from->size() == to->size() &&
                                (from->at(0) != to->at(0) || from->at(1) != to->at(1));
                       }};

const Limit kFlat{.what = "tensors of less than three dimensions",
                  .remedy = "Reshape them to [N, C, W]",
                  .asked = [](const Operation& operation, const Deployment&, Width) {
                    return rank_of(operation.input(0)).value_or(3) < 3;
                  }};

/// The plan of a Resize whose shapes and operands are known before it runs.
std::optional<ResizePlan> known_plan(const Operation& operation) {
  const auto shape = image_shape(operation, operation.input(0));
  if (!shape || shape->size() < 3) return std::nullopt;
  Tensors operands{at::empty(*shape, at::TensorOptions(at::kMeta))};
  bool sized = false;
  for (size_t slot = 1; slot < 4; ++slot) {
    const Variable* operand = operation.input(slot);
    if (operand && !operand->is_parameter()) return std::nullopt;
    operands.push_back(operand ? operand->value() : at::Tensor());
    sized |= slot > 1 && operand && operand->value().numel() > 0;
  }
  return sized ? std::optional(plan_resize(operation, operands)) : std::nullopt;
}

/// Scale of an axis as chip library 3.3.9 takes it.
float library_scale(const ResizePlan& plan, size_t axis) {
  if (!plan.sizes_given) return plan.scales[axis];
  return static_cast<float>(plan.output[axis]) / static_cast<float>(plan.input[axis]);
}

/// Where chip library 3.3.9 reads for output element x: asymmetric and rounded down in mode nearest, else half_pixel or
/// align_corners (which divides by 0 for one output).
double library_position(const ResizePlan& plan, size_t axis, int64_t x) {
  const auto last = static_cast<float>(plan.input[axis] - 1), place = static_cast<float>(x);
  const float inverse = 1 / library_scale(plan, axis);
  if (plan.mode == "nearest") return std::min(std::floor(place * inverse), last);
  if (plan.coordinates != "align_corners") return std::clamp((place + 0.5f) * inverse - 0.5f, 0.0f, last);
  const auto end = static_cast<float>(plan.output[axis] - 1);
  return end == 0 ? last : place * last / end;
}

/// Where the standard reads; nullopt outside a cropped region, whose elements are not read.
std::optional<double> standard_position(const Operation& operation, const ResizePlan& plan, size_t axis, int64_t x) {
  const double position = source_position(operation, plan, axis, static_cast<double>(x));
  const auto last = static_cast<double>(plan.input[axis] - 1);
  if (plan.coordinates == "tf_crop_and_resize" && (position < 0 || position > last)) return std::nullopt;
  const double read =
      plan.mode == "nearest" ? static_cast<double>(nearest_tap(operation, plan, position).first) : position;
  return std::clamp(read, 0.0, last);
}

const Limit kCoordinates{
    .what = "other coordinates than its own (nearest: asymmetric, rounded down; linear: half_pixel or align_corners)",
    .remedy = "use nearest with asymmetric and floor, or linear with half_pixel or align_corners",
    .asked = [](const Operation& operation, const Deployment&, Width) {
      const auto plan = known_plan(operation);
      if (!plan || (plan->mode != "nearest" && plan->mode != "linear")) return false;
      for (size_t axis = 2; axis < plan->input.size(); ++axis)
        for (int64_t x = 0; x < plan->output[axis]; ++x) {
          const auto wanted = standard_position(operation, *plan, axis, x);
          if (!wanted || std::abs(*wanted - library_position(*plan, axis, x)) > 1e-3) return true;
        }
      return false;
    }};

const Limit kAntialias{.what = "antialias where it makes an axis shorter",
                       .remedy = "resize without antialias, or pool first",
                       .asked = [](const Operation& operation, const Deployment&, Width) {
                         if (operation.int_attribute("antialias", 0) == 0) return false;
                         const auto plan = known_plan(operation);
                         return plan && plan->mode != "nearest" &&
                                std::any_of(plan->scales.begin(), plan->scales.end(), [](float s) { return s < 1; });
                       }};

/// The vector kernel of other factors than 2 x 2 leaves out the first 16 channels together with the registers that it
/// needs for the rest.
const Limit kFewChannels{.what = "nearest with less than 16 channels, except by 2 x 2",
                         .remedy = "resize in steps of 2 x 2, or with 16 channels",
                         .asked =
                             [](const Operation& operation, const Deployment&, Width) {
                               const auto plan = known_plan(operation);
                               if (!plan || plan->mode != "nearest" || plan->input[1] >= 16) return false;
                               return plan->input.size() != 4 || library_scale(*plan, 2) != 2 ||
                                      library_scale(*plan, 3) != 2;
                             },
                         .holds = [](const Deployment& deployment) { return deployment.target.vector_unit; }};

}  // namespace

Operators resize_operators() {
  return {
      {.name = "Resize",
       .inputs =
           {{"X"}, optional(index_operand("roi")), optional(index_operand("scales")), optional(index_operand("sizes"))},
       .outputs = {{"Y"}},
       .attributes = {stated(text("mode", "nearest")), text("coordinate_transformation_mode", "half_pixel"),
                      text("nearest_mode", "round_prefer_floor"), text("keep_aspect_ratio_policy", "stretch"),
                      integers("axes"), integer("antialias", 0), real("cubic_coeff_a", -0.75f),
                      integer("exclude_outside", 0), real("extrapolation_value", 0.0f)},
       .forward = resize,
       .quantization = {.quantizable = true, .alignment = AlignmentClass::Resize},
       .layout = LayoutRule::Resize,
       .chip = {.board = resize_board,
                .kernels = {.int8 = true},
                .limits = {needs_constants<2, 3>("a size that the network computes"), kSpatialAxes, kFlat, kOneSample,
                           kCubic, kOtherAxes, kAntialias, kCoordinates, kFewChannels},
                .note = "nearest is asymmetric and rounds down, linear is half_pixel or align_corners, whatever the "
                        "attributes say; roi, axes, antialias, exclude_outside and keep_aspect_ratio_policy are never "
                        "read, and sizes win over scales"}},
  };
}

}  // namespace espq
