#include "core/ops/window_limits.h"

#include "core/ops/limits.h"
#include "core/ops/window.h"

namespace espq {
namespace {

/// The window of an operation over an input whose shape is known, both in the model's order.
struct Placed {
  Window window;
  Shape input;  ///< spatial dimensions

  int64_t room(size_t axis) const { return input[axis] + window.begin[axis] + window.end[axis] - window.reach(axis); }
  /// Results along an axis, rounded down.
  int64_t results(size_t axis) const { return room(axis) < 0 ? 0 : room(axis) / window.strides[axis] + 1; }
  int64_t start(size_t axis, int64_t result) const { return result * window.strides[axis] - window.begin[axis]; }
};

std::vector<int64_t> kernel_of(const Operation& operation) {
  const auto slot = definition_of(operation).input_slot(OperandRole::Weight);
  if (!slot) return operation.ints_attribute("kernel_shape", {});
  const Variable* filter = operation.input(*slot);
  if (!filter || !filter->shape() || filter->shape()->size() < 3) return {};
  return {filter->shape()->begin() + 2, filter->shape()->end()};
}

std::optional<Placed> placed(const Operation& operation) {
  const auto shape = image_shape(operation, operation.input(0));
  std::vector<int64_t> kernel = kernel_of(operation);
  if (!shape || kernel.empty() || shape->size() != kernel.size() + 2) return std::nullopt;
  Placed result{.window = read_window(operation, *shape, std::move(kernel)), .input = {}};
  result.input.assign(shape->begin() + 2, shape->end());
  return result;
}

/// True when `holds(placed, axis)` for some axis.
template <typename Predicate>
bool on_some_axis(const Operation& operation, Predicate holds) {
  const auto window = placed(operation);
  if (!window) return false;
  for (size_t axis = 0; axis < window->window.rank(); ++axis)
    if (holds(*window, axis)) return true;
  return false;
}

/// The attribute is never read. It changes nothing where the pads that it stands for are those of the file.
const Limit kAutoPad{
    .what = "auto_pad", .remedy = "give the pads", .asked = [](const Operation& operation, const Deployment&, Width) {
      const std::string mode = operation.string_attribute("auto_pad", "NOTSET");
      if (mode.empty() || mode == "NOTSET") return false;
      const auto window = placed(operation);
      if (!window) return mode != "VALID";
      auto pads = window->window.begin;
      pads.insert(pads.end(), window->window.end.begin(), window->window.end.end());
      return pads != operation.ints_attribute("pads", std::vector<int64_t>(pads.size(), 0));
    }};

const Limit kCroppingPads{.what = "negative pads",
                          .remedy = "crop with a Slice in front",
                          .asked = [](const Operation& operation, const Deployment&, Width) {
                            const auto pads = operation.ints_attribute("pads", {});
                            return std::any_of(pads.begin(), pads.end(), [](int64_t pad) { return pad < 0; });
                          }};

/// The part of the window that is left at the border has a length of 0 or less, which loops take for a huge one.
bool lies_in_padding(const Placed& placed, size_t axis) {
  const Window& window = placed.window;
  const int64_t dilation = window.dilations[axis];
  for (int64_t result = 0; result < placed.results(axis); ++result) {
    const int64_t start = placed.start(axis, result);
    const int64_t first_tap = start >= 0 ? 0 : (-start + dilation - 1) / dilation;
    if (first_tap >= window.kernel[axis] || start + first_tap * dilation >= placed.input[axis]) return true;
  }
  return false;
}

/// Quotients are rounded towards zero: a window that is longer than the input by less than the stride counts as one
/// that lies within it.
bool counts_as_inside(const Placed& placed, size_t axis) {
  const int64_t excess = placed.window.reach(axis) - placed.input[axis];
  return placed.window.begin[axis] == 0 && excess > 0 && excess < placed.window.strides[axis] &&
         placed.results(axis) > 0;
}

/// Pools compute as many results at the front border as windows would start in front of the input, even where the
/// output has fewer; the length of the zone at the end is negative then.
bool overruns_the_front(const Placed& placed, size_t axis) {
  const int64_t stride = placed.window.strides[axis];
  return (placed.window.begin[axis] + stride - 1) / stride > placed.results(axis);
}

const Limit kWindowInPadding{.what = "a window that meets no element of the input (pads as large as the kernel)",
                             .remedy = "put the padding into a Pad in front",
                             .asked = [](const Operation& operation, const Deployment&, Width) {
                               return on_some_axis(operation, lies_in_padding);
                             }};

constexpr std::string_view kShort = "an input that is shorter than the window, with such padding and stride";
constexpr std::string_view kShortRemedy = "put the padding into a Pad in front";

const Limit kShortConvolved{
    .what = kShort, .remedy = kShortRemedy, .asked = [](const Operation& operation, const Deployment&, Width) {
      return on_some_axis(operation, counts_as_inside);
    }};
const Limit kShortPooled{
    .what = kShort, .remedy = kShortRemedy, .asked = [](const Operation& operation, const Deployment&, Width) {
      return on_some_axis(operation, [](const Placed& placed, size_t axis) {
        return overruns_the_front(placed, axis) || counts_as_inside(placed, axis);
      });
    }};

const Limit kDilation{.what = "a dilated window",
                      .remedy = "pool without dilation",
                      .asked = [](const Operation& operation, const Deployment&, Width) {
                        const auto kernel = operation.ints_attribute("kernel_shape", {});
                        const auto dilations = operation.ints_attribute("dilations", {});
                        for (size_t axis = 0; axis < std::min(kernel.size(), dilations.size()); ++axis)
                          if (dilations[axis] != 1 && kernel[axis] != 1) return true;
                        return false;
                      }};

/// Sizes are rounded down on the chip. The standard rounds up, but lets no window start behind the input and its
/// padding in front.
const Limit kCeil{.what = "ceil_mode where it gives another size",
                  .remedy = "pad the input, or pool without ceil_mode",
                  .asked = [](const Operation& operation, const Deployment&, Width) {
                    return operation.int_attribute("ceil_mode", 0) != 0 &&
                           on_some_axis(operation, [](const Placed& placed, size_t axis) {
                             const int64_t results = placed.results(axis);
                             return placed.room(axis) % placed.window.strides[axis] != 0 &&
                                    placed.start(axis, results) < placed.input[axis];
                           });
                  }};

}  // namespace

const Limit kPartialArea{.what = "count_include_pad = 0 where a window reaches into the padding",
                         .remedy = "pool with count_include_pad = 1 or without padding",
                         .asked = [](const Operation& operation, const Deployment&, Width) {
                           return operation.int_attribute("count_include_pad", 0) == 0 &&
                                  on_some_axis(operation, [](const Placed& placed, size_t axis) {
                                    const int64_t results = placed.results(axis);
                                    if (results == 0) return false;
                                    return placed.start(axis, 0) < 0 ||
                                           placed.start(axis, results - 1) + placed.window.reach(axis) >
                                               placed.input[axis];
                                  });
                         }};

bool convolves_padded(const Window& window, const Shape& input) {
  const Placed placed{window, Shape(input.begin() + 2, input.end())};
  for (size_t axis = 0; axis < window.rank(); ++axis)
    if (std::min(window.begin[axis], window.end[axis]) < 0 || lies_in_padding(placed, axis) ||
        counts_as_inside(placed, axis))
      return false;
  return true;
}

bool pools_padded(const Window& window, const Shape& input) {
  const Placed placed{window, Shape(input.begin() + 2, input.end())};
  for (size_t axis = 0; axis < window.rank(); ++axis)
    if (overruns_the_front(placed, axis)) return false;
  return convolves_padded(window, input);
}

std::vector<Limit> convolution_limits() {
  return {kSpatialAxes, kOneSample, kAutoPad, kCroppingPads, kWindowInPadding, kShortConvolved};
}

std::vector<Limit> pool_limits() {
  return {kSpatialAxes, kOneSample, kAutoPad, kCroppingPads, kDilation, kCeil, kWindowInPadding, kShortPooled};
}

}  // namespace espq
