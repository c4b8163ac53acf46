// Operators that pick, join and rearrange elements.
#include "core/ops/arguments.h"
#include "core/ops/families.h"
#include "core/ops/row.h"
#include "core/support/error.h"

namespace espq {
namespace {

Tensors concat(const ForwardContext& context, const Tensors& in) {
  return one(at::cat(in, wrap_axis(context.operation, context.operation.int_attribute("axis"), in[0].dim())));
}

/// Without explicit sizes the axis is cut into equal parts, the last one smaller when it does not divide.
Tensors split(const ForwardContext& context, const Tensors& in) {
  const Operation& operation = context.operation;
  const int64_t axis = wrap_axis(operation, operation.int_attribute("axis"), in[0].dim());
  if (has_input(in, 1)) return at::split_with_sizes(in[0], to_integers(in[1]), axis);
  const auto parts = operation.int_attribute("num_outputs", static_cast<int64_t>(operation.outputs().size()));
  const int64_t total = in[0].size(axis), part = (total + parts - 1) / parts;
  std::vector<int64_t> sizes;
  for (int64_t i = 0; i < parts; ++i) sizes.push_back(std::clamp<int64_t>(total - i * part, 0, part));
  return at::split_with_sizes(in[0], sizes, axis);
}

at::Tensor slice_axis(const at::Tensor& x, int64_t axis, int64_t start, int64_t end, int64_t step) {
  const int64_t size = x.size(axis);
  if (start < 0) start += size;
  if (end < 0) end += size;
  if (step > 0) {
    start = std::clamp<int64_t>(start, 0, size);
    return x.slice(axis, start, std::max(start, std::clamp<int64_t>(end, 0, size)), step);
  }
  start = std::clamp<int64_t>(start, -1, size - 1);
  end = std::clamp<int64_t>(end, -1, size - 1);
  if (start <= end) return x.slice(axis, 0, 0);
  return x.index_select(axis, at::arange(start, end, step, x.options().dtype(at::kLong).requires_grad(false)));
}

Tensors slice(const ForwardContext& context, const Tensors& in) {
  const Operation& operation = context.operation;
  const std::vector<int64_t> starts = to_integers(in[1]), ends = to_integers(in[2]);
  std::vector<int64_t> axes(starts.size()), steps(starts.size(), 1);
  for (size_t i = 0; i < axes.size(); ++i) axes[i] = static_cast<int64_t>(i);
  if (has_input(in, 3)) axes = to_integers(in[3]);
  if (has_input(in, 4)) steps = to_integers(in[4]);
  user_check(ends.size() == starts.size() && axes.size() == starts.size() && steps.size() == starts.size(),
             "operation '{}' (Slice): starts, ends, axes and steps differ in length", operation.name());
  at::Tensor result = in[0];
  const std::vector<int64_t> wrapped = wrap_axes(operation, axes, in[0].dim());
  for (size_t i = 0; i < starts.size(); ++i) {
    user_check(steps[i] != 0, "operation '{}' (Slice): a step is 0", operation.name());
    // INT64_MIN as an end means "past the first element"; adding the size must not bring it back into range.
    const int64_t end = std::max(ends[i], INT64_MIN / 2);
    result = slice_axis(result, wrapped[i], std::max(starts[i], INT64_MIN / 2), end, steps[i]);
  }
  return one(result);
}

Tensors gather(const ForwardContext& context, const Tensors& in) {
  const int64_t axis = wrap_axis(context.operation, context.operation.int_attribute("axis"), in[0].dim());
  const at::Tensor given = in[1].to(in[0].device(), at::kLong);
  const at::Tensor index = at::where(given < 0, given + in[0].size(axis), given);
  Shape shape(in[0].sizes().begin(), in[0].sizes().begin() + axis);
  shape.insert(shape.end(), index.sizes().begin(), index.sizes().end());
  shape.insert(shape.end(), in[0].sizes().begin() + axis + 1, in[0].sizes().end());
  return one(in[0].index_select(axis, index.reshape({-1})).reshape(shape));
}

// ---------------------------------------------------------------------------------------------- Pad
/// Where an output position of a padded axis reads its value.
int64_t padded_source(int64_t position, int64_t size, const std::string& mode) {
  if (mode == "edge") return std::clamp<int64_t>(position, 0, size - 1);
  if (mode == "wrap") return ((position % size) + size) % size;
  if (size == 1) return 0;
  const int64_t period = 2 * (size - 1);
  const int64_t folded = ((position % period) + period) % period;
  return folded < size ? folded : period - folded;
}

at::Tensor pad_axis(const at::Tensor& x, int64_t axis, int64_t before, int64_t after, const std::string& mode) {
  const int64_t size = x.size(axis);
  std::vector<int64_t> source;
  for (int64_t position = -before; position < size + after; ++position) {
    source.push_back(padded_source(position, size, mode));
  }
  return x.index_select(axis, at::tensor(source, at::kLong).to(x.device()));
}

/// Negative pads crop.
Tensors pad(const ForwardContext& context, const Tensors& in) {
  const Operation& operation = context.operation;
  const std::string& mode = operation.string_attribute("mode");
  user_check(mode == "constant" || mode == "reflect" || mode == "edge" || mode == "wrap",
             "operation '{}' (Pad): unknown mode '{}'; use constant, reflect, edge or wrap", operation.name(), mode);
  const std::vector<int64_t> pads = to_integers(in[1]);
  std::vector<int64_t> axes;
  for (int64_t i = 0; i < in[0].dim(); ++i) axes.push_back(i);
  if (has_input(in, 3)) axes = wrap_axes(operation, to_integers(in[3]), in[0].dim());
  user_check(pads.size() == 2 * axes.size(), "operation '{}' (Pad): {} pads were given for {} axes", operation.name(),
             pads.size(), axes.size());
  if (mode == "constant") {
    std::vector<int64_t> reversed(2 * in[0].dim(), 0);  // LibTorch starts at the last axis
    for (size_t i = 0; i < axes.size(); ++i) {
      reversed[2 * (in[0].dim() - 1 - axes[i])] = pads[i];
      reversed[2 * (in[0].dim() - 1 - axes[i]) + 1] = pads[i + axes.size()];
    }
    const at::Scalar value = has_input(in, 2) && in[2].numel() ? in[2].item() : at::Scalar(0);
    return one(at::constant_pad_nd(in[0], reversed, value));
  }
  at::Tensor result = in[0];
  for (size_t i = 0; i < axes.size(); ++i) {
    if (pads[i] || pads[i + axes.size()]) result = pad_axis(result, axes[i], pads[i], pads[i + axes.size()], mode);
  }
  return one(result);
}

// ---------------------------------------------------------------------------------------------- blocks
void check_blocks(const Operation& operation, const at::Tensor& x, bool divisible) {
  user_check(x.dim() == 4 && divisible, "operation '{}' ({}): blocksize {} does not divide a tensor of {} dimensions",
             operation.name(), operation.type(), operation.int_attribute("blocksize"), x.dim());
}

Tensors depth_to_space(const ForwardContext& context, const Tensors& in) {
  const Operation& operation = context.operation;
  const int64_t b = operation.int_attribute("blocksize");
  check_blocks(operation, in[0], in[0].dim() == 4 && b > 0 && in[0].size(1) % (b * b) == 0);
  const int64_t n = in[0].size(0), c = in[0].size(1) / (b * b), h = in[0].size(2), w = in[0].size(3);
  const at::Tensor blocks = operation.string_attribute("mode") == "CRD"
                                ? in[0].reshape({n, c, b, b, h, w}).permute({0, 1, 4, 2, 5, 3})
                                : in[0].reshape({n, b, b, c, h, w}).permute({0, 3, 4, 1, 5, 2});
  return one(blocks.reshape({n, c, h * b, w * b}));
}

/// ONNX numbers the new channels block by block; the chip library channel by channel, which is mode CRD here, as in
/// DepthToSpace (ONNX has no such attribute).
Tensors space_to_depth(const ForwardContext& context, const Tensors& in) {
  const Operation& operation = context.operation;
  const int64_t b = operation.int_attribute("blocksize");
  check_blocks(operation, in[0], in[0].dim() == 4 && b > 0 && in[0].size(2) % b == 0 && in[0].size(3) % b == 0);
  const int64_t n = in[0].size(0), c = in[0].size(1), h = in[0].size(2) / b, w = in[0].size(3) / b;
  const at::Tensor blocks = in[0].reshape({n, c, h, b, w, b});
  const bool by_channel = context.chip || operation.string_attribute("mode") == "CRD";
  const at::Tensor ordered = by_channel ? blocks.permute({0, 1, 3, 5, 2, 4}) : blocks.permute({0, 3, 5, 1, 2, 4});
  return one(ordered.reshape({n, c * b * b, h, w}));
}

Tensors where(const ForwardContext&, const Tensors& in) { return one(at::where(in[0].to(at::kBool), in[1], in[2])); }

// ---------------------------------------------------------------------------------------------- definitions
const Limit kWrap{.what = "mode wrap",
                  .remedy = "use constant, edge or reflect",
                  .asked = [](const Operation& operation, const Deployment&, Width) {
                    return operation.string_attribute("mode", "constant") == "wrap";
                  }};
const Limit kPadAxes{
    .what = "an axes operand",
    .remedy = "give pads for every axis",
    .asked = [](const Operation& operation, const Deployment&, Width) { return operation.input(3) != nullptr; }};

}  // namespace

Operators movement_operators() {
  return {
      {.name = "Concat",
       .inputs = {variadic("inputs")},
       .outputs = {{"output"}},
       .attributes = {required(integer("axis"))},
       .forward = concat,
       .quantization = {.quantizable = true, .alignment = AlignmentClass::Concat},
       .layout = LayoutRule::Concat,
       .chip = {.board = board_on_codes, .kernels = kAllWidths}},
      {.name = "Split",
       .inputs = {{"input"}, optional(index_operand("split"))},
       .outputs = {variadic("outputs")},
       .attributes = {integer("axis", 0), integer("num_outputs")},
       .forward = split,
       .quantization = {.quantizable = true, .passive = true},
       .layout = LayoutRule::Axis,
       .chip = {.board = board_on_codes, .kernels = kAllWidths}},
      {.name = "Slice",
       .inputs = {{"data"},
                  index_operand("starts"),
                  index_operand("ends"),
                  optional(index_operand("axes")),
                  optional(index_operand("steps"))},
       .outputs = {{"output"}},
       .forward = slice,
       .quantization = {.quantizable = true, .passive = true},
       .layout = LayoutRule::Slice,
       .chip = {.board = board_on_codes, .kernels = kAllWidths}},
      {.name = "Gather",
       .inputs = {{"data"}, index_operand("indices")},
       .outputs = {{"output"}},
       .attributes = {integer("axis", 0)},
       .forward = gather,
       .quantization = {.quantizable = true, .passive = true},
       .chip = {.board = board_on_codes, .kernels = kAllWidths}},
      {.name = "Pad",
       .inputs = {{"data"},
                  index_operand("pads"),
                  optional(operand("constant_value", OperandRole::Follows)),
                  optional(index_operand("axes"))},
       .outputs = {{"output"}},
       .attributes = {text("mode", "constant")},
       .forward = pad,
       .quantization = {.quantizable = true, .passive = true},
       .chip = {.board = board_on_codes, .kernels = kAllWidths, .limits = {kWrap, kPadAxes}}},
      {.name = "DepthToSpace",
       .inputs = {{"data"}},
       .outputs = {{"output"}},
       .attributes = {required(integer("blocksize")), text("mode", "DCR")},
       .forward = depth_to_space,
       .quantization = {.quantizable = true},
       .layout = LayoutRule::ChannelsLast,
       .chip = {.board = board_on_codes, .kernels = kAllWidths}},
      {.name = "SpaceToDepth",
       .inputs = {{"data"}},
       .outputs = {{"output"}},
       .attributes = {required(integer("blocksize")), text("mode", "DCR")},
       .forward = space_to_depth,
       .quantization = {.quantizable = true},
       .layout = LayoutRule::ChannelsLast,
       .chip = {.board = board_on_codes,
                .kernels = kAllWidths,
                .note = "orders the new channels channel by channel, ONNX block by block"}},
      {.name = "Where",
       .inputs = {index_operand("condition"), operand("X", OperandRole::Mask), operand("Y", OperandRole::Mask)},
       .outputs = {{"output"}},
       .forward = where,
       .chip = {.board = board_on_values}},
  };
}

}  // namespace espq
