#include "onnx_frontend/padding.h"

#include "core/support/error.h"

namespace espq::onnx_frontend {
namespace {

using Integers = Draft::Integers;

/// An attribute with one entry per spatial axis (two for pads); `missing` stands for each entry of an absent one.
Integers spatial(Draft& draft, const std::string& key, size_t count, int64_t missing, int64_t least) {
  Integers values = draft.integers(key);
  if (values.empty()) values.assign(count, missing);
  user_check(values.size() == count, "{}: attribute '{}' has {} entries, {} are needed", draft.title(), key,
             values.size(), count);
  for (const int64_t value : values)
    user_check(value >= least && value <= (int64_t{1} << 31), "{}: attribute '{}' has the impossible entry {}",
               draft.title(), key, value);
  return values;
}

struct Window {
  Integers kernel, strides, dilations, pads;
  size_t axes() const { return kernel.size(); }
  int64_t extent(size_t axis) const { return (kernel[axis] - 1) * dilations[axis] + 1; }
};

Integers kernel_shape(Draft& draft, bool from_weight) {
  Integers kernel = draft.integers("kernel_shape");
  if (from_weight) {
    const Shape weight = draft.shape_of(1);
    user_check(weight.size() >= 3, "{}: its weight has {} dimensions, at least 3 are needed", draft.title(),
               weight.size());
    const Integers actual(weight.begin() + 2, weight.end());
    user_check(kernel.empty() || kernel == actual, "{}: kernel_shape does not agree with its weight's shape",
               draft.title());
    kernel = actual;
  }
  user_check(!kernel.empty(), "{}: attribute 'kernel_shape' is missing", draft.title());
  draft.attributes["kernel_shape"] = kernel;
  return spatial(draft, "kernel_shape", kernel.size(), 1, 1);
}

/// Reads the window and writes back strides and dilations.
Window read_window(Draft& draft, bool from_weight) {
  Window window;
  window.kernel = kernel_shape(draft, from_weight);
  window.strides = spatial(draft, "strides", window.axes(), 1, 1);
  window.dilations = spatial(draft, "dilations", window.axes(), 1, 1);
  window.pads = spatial(draft, "pads", 2 * window.axes(), 0, -(int64_t{1} << 31));
  draft.attributes["strides"] = window.strides;
  // Pools keep what the model says: their kernels take a missing list for ones.
  if (from_weight || draft.attributes.count("dilations")) draft.attributes["dilations"] = window.dilations;
  return window;
}

/// Takes the attribute away: what it means is in `pads` afterwards. "" = pads as given.
std::string take_auto_pad(Draft& draft) {
  auto mode = draft.attribute<std::string>("auto_pad", "NOTSET");
  draft.attributes.erase("auto_pad");
  const bool known =
      mode == "NOTSET" || mode.empty() || mode == "VALID" || mode == "SAME_UPPER" || mode == "SAME_LOWER";
  user_check(known, "{}: auto_pad '{}' does not exist", draft.title(), mode);
  if (mode == "NOTSET") mode.clear();
  // Such windows round their own way: the number of outputs does not depend on ceil_mode.
  if (!mode.empty() && draft.attributes.count("ceil_mode")) draft.attributes["ceil_mode"] = int64_t{0};
  return mode;
}

Integers spatial_size(Draft& draft, const Window& window) {
  const Shape shape = draft.shape_of(0);
  user_check(shape.size() == window.axes() + 2, "{}: its operand has {} dimensions, {} are needed", draft.title(),
             shape.size(), window.axes() + 2);
  return {shape.begin() + 2, shape.end()};
}

/// Splits the padding of one axis; the odd element goes to the end for SAME_UPPER.
void set_pads(Window& window, size_t axis, int64_t total, bool more_at_end) {
  const int64_t small = total / 2;
  window.pads[axis] = more_at_end ? small : total - small;
  window.pads[axis + window.axes()] = more_at_end ? total - small : small;
}

void resolve_forward_pads(Draft& draft, Window& window) {
  const std::string mode = take_auto_pad(draft);
  if (mode == "VALID") window.pads.assign(2 * window.axes(), 0);
  if (mode == "SAME_UPPER" || mode == "SAME_LOWER") {
    const Integers size = spatial_size(draft, window);
    for (size_t axis = 0; axis < window.axes(); ++axis) {
      const int64_t outputs = (size[axis] + window.strides[axis] - 1) / window.strides[axis];
      const int64_t needed = (outputs - 1) * window.strides[axis] + window.extent(axis) - size[axis];
      set_pads(window, axis, std::max<int64_t>(needed, 0), mode == "SAME_UPPER");
    }
  }
  draft.attributes["pads"] = window.pads;
}

}  // namespace

void convolution_padding(Draft& draft) {
  Window window = read_window(draft, true);
  resolve_forward_pads(draft, window);
}

void pool_padding(Draft& draft) {
  Window window = read_window(draft, false);
  resolve_forward_pads(draft, window);
}

void transposed_convolution_padding(Draft& draft) {
  Window window = read_window(draft, true);
  const std::string mode = take_auto_pad(draft);
  Integers extra = spatial(draft, "output_padding", window.axes(), 0, 0);
  Integers wanted = draft.integers("output_shape");
  draft.attributes.erase("output_shape");
  const bool same = mode == "SAME_UPPER" || mode == "SAME_LOWER";
  if (!wanted.empty() || same) {
    const Integers size = spatial_size(draft, window);
    if (wanted.size() == window.axes() + 2) wanted.erase(wanted.begin(), wanted.begin() + 2);
    user_check(wanted.empty() || wanted.size() == window.axes(), "{}: output_shape has {} entries, {} are needed",
               draft.title(), wanted.size(), window.axes());
    for (size_t axis = 0; axis < window.axes(); ++axis) {
      const int64_t target = wanted.empty() ? size[axis] * window.strides[axis] : wanted[axis];
      const int64_t natural = (size[axis] - 1) * window.strides[axis] + extra[axis] + window.extent(axis);
      set_pads(window, axis, std::max<int64_t>(natural - target, 0), mode == "SAME_UPPER");
      // A larger output than the windows reach grows at the end.
      if (target > natural) extra[axis] += target - natural;
    }
  } else if (mode == "VALID") {
    window.pads.assign(2 * window.axes(), 0);
  }
  draft.attributes["pads"] = window.pads;
  const bool grows = std::any_of(extra.begin(), extra.end(), [](int64_t value) { return value != 0; });
  if (grows || draft.attributes.count("output_padding")) draft.attributes["output_padding"] = extra;
}

}  // namespace espq::onnx_frontend
