// Operators that pick, join and rearrange elements.
#include "core/graph/match.h"
#include "core/ops/arguments.h"
#include "core/ops/families.h"
#include "core/ops/limits.h"
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
const Limit kOneOperand{
    .what = "a single operand",
    .remedy = "leave the Concat out",
    .asked = [](const Operation& operation, const Deployment&, Width) { return operation.inputs().size() < 2; }};

/// Without sizes it takes the number of outputs for the size of a chunk, and has no default for that number.
const Limit kChunks{.what = "a missing list of sizes",
                    .remedy = "give the sizes as operand",
                    .asked = [](const Operation& operation, const Deployment&, Width) {
                      if (operation.input(1)) return false;
                      const int64_t count = operation.int_attribute("num_outputs", 0);
                      const Variable* data = operation.input(0);
                      if (count == 0 || !data->shape() || data->shape()->empty()) return true;
                      const auto rank = static_cast<int64_t>(data->shape()->size());
                      const int64_t axis = wrap_axis(operation, operation.int_attribute("axis", 0), rank);
                      return ((*data->shape())[axis] + count - 1) / count != count;
                    }};

/// Half-open range along an axis of `size` elements, walked forwards.
struct Range {
  int64_t start, end;
  bool operator==(const Range&) const = default;
};

/// What the standard selects. A negative step walks the axis mirrored.
Range standard_range(int64_t start, int64_t end, int64_t step, int64_t size) {
  start = std::max(start, INT64_MIN / 2) + (start < 0 ? size : 0);
  end = std::max(end, INT64_MIN / 2) + (end < 0 ? size : 0);
  if (step < 0) {
    start = size - 1 - start;
    end = size - 1 - end;
  }
  return {std::clamp<int64_t>(start, 0, size), std::clamp<int64_t>(end, 0, size)};
}

/// What chip library 3.3.9 selects: numbers of 32 bits, mirrored before they are wrapped, and no bound at the front.
Range library_range(int64_t start, int64_t end, int64_t step, int64_t size) {
  const auto narrow = [](int64_t value) { return std::clamp<int64_t>(value, INT32_MIN, INT32_MAX); };
  const auto mirrored = [](int64_t value) { return static_cast<int32_t>(static_cast<uint32_t>(-value - 1)); };
  start = step < 0 ? mirrored(narrow(start)) : narrow(start);
  end = std::min<int64_t>(step < 0 ? mirrored(narrow(end)) : narrow(end), size);
  return {start < 0 ? start + size : start % (size + 1), end < 0 ? end + size : end};
}

const Limit kSliceRange{
    .what = "a start in front of the axis or behind it, or an empty result",
    .remedy = "give starts and ends within the axis",
    .asked = [](const Operation& operation, const Deployment&, Width) {
      const auto read = [&](size_t slot) { return integer_constant(operation.input(slot)); };
      const auto starts = read(1), ends = read(2), axes = read(3), steps = read(4);
      const Variable* data = operation.input(0);
      if (!starts || !ends || !data->shape() || starts->size() != ends->size()) return false;
      const auto rank = static_cast<int64_t>(data->shape()->size());
      for (size_t i = 0; i < starts->size(); ++i) {
        const int64_t axis = wrap_axis(operation, axes ? axes->at(i) : static_cast<int64_t>(i), rank);
        const int64_t size = (*data->shape())[axis], step = steps ? steps->at(i) : 1;
        const Range wanted = standard_range((*starts)[i], (*ends)[i], step, size);
        if (wanted.start >= wanted.end || wanted != library_range((*starts)[i], (*ends)[i], step, size)) return true;
      }
      return false;
    }};

const Limit kNegativeIndex{
    .what = "negative indices",
    .remedy = "count from the front",
    .asked = [](const Operation& operation, const Deployment&, Width) { return has_negative(operation.input(1)); }};

// ------------------------------------------------------------------------------------------------ Pad
std::string pad_mode(const Operation& operation) { return operation.string_attribute("mode", "constant"); }

const Limit kWrap{
    .what = "mode wrap",
    .remedy = "use constant, edge or reflect",
    .asked = [](const Operation& operation, const Deployment&, Width) { return pad_mode(operation) == "wrap"; }};

/// The operand is never read: pads must be there for every axis.
const Limit kPadAxes{.what = "an axes operand",
                     .remedy = "give pads for every axis",
                     .asked = [](const Operation& operation, const Deployment&, Width) {
                       if (!operation.input(3)) return false;
                       const auto axes = integer_constant(operation.input(3));
                       const auto rank = rank_of(operation.input(0));
                       if (!axes || !rank || static_cast<int64_t>(axes->size()) != *rank) return true;
                       for (int64_t i = 0; i < *rank; ++i)
                         if (wrap_axis(operation, axes->at(i), *rank) != i) return true;
                       return false;
                     }};

const Limit kCrop{
    .what = "negative pads",
    .remedy = "crop with a Slice",
    .asked = [](const Operation& operation, const Deployment&, Width) { return has_negative(operation.input(1)); }};

/// Pads for every axis and the shape that they are for; nullopt when they are not known.
std::optional<std::pair<std::vector<int64_t>, Shape>> known_pads(const Operation& operation) {
  const auto pads = integer_constant(operation.input(1));
  const auto& shape = operation.input(0)->shape();
  if (!pads || !shape || pads->size() != 2 * shape->size()) return std::nullopt;
  return std::pair(*pads, *shape);
}

const Limit kFarReflection{.what = "mode reflect beyond the axis",
                           .remedy = "pad by less than the axis holds, or in steps",
                           .asked = [](const Operation& operation, const Deployment&, Width) {
                             const auto known = known_pads(operation);
                             if (pad_mode(operation) != "reflect" || !known) return false;
                             const auto& [pads, shape] = *known;
                             for (size_t i = 0; i < pads.size(); ++i)
                               if (pads[i] >= std::max<int64_t>(shape[i % shape.size()], 1)) return true;
                             return false;
                           }};

/// Five dimensions are taken for four, the first two of them merged; more of them are constant padding's alone.
const Limit kPadRank{.what = "mode edge or reflect of the outer dimensions of a tensor of five or more",
                     .remedy = "merge dimensions that are not padded with a Reshape",
                     .asked = [](const Operation& operation, const Deployment&, Width) {
                       const auto known = known_pads(operation);
                       if (pad_mode(operation) == "constant" || !known || known->second.size() < 5) return false;
                       const auto& [pads, shape] = *known;
                       if (shape.size() > 5 || pads[0] != 0 || pads[5] != 0) return true;
                       return shape[0] > 1 && (pads[1] != 0 || pads[6] != 0);
                     }};

// ------------------------------------------------------------------------------------------------ blocks
/// It takes the channel modulo the block size for the new channel.
const Limit kDepthFirst{.what = "mode DCR, except for as many new channels as the block size",
                        .remedy = "use mode CRD, with the channels in front of it permuted",
                        .asked = [](const Operation& operation, const Deployment&, Width) {
                          const auto shape = image_shape(operation, operation.input(0));
                          const int64_t block = operation.int_attribute("blocksize");
                          return operation.string_attribute("mode", "DCR") != "CRD" && shape && shape->size() == 4 &&
                                 (*shape)[1] != block * block * block;
                        }};

const Limit kBlockOrder{.what = "more than one channel in ONNX's order (it numbers the new ones channel by channel)",
                        .remedy = "permute the channels of the Conv behind, or use Reshape and Transpose",
                        .asked = [](const Operation& operation, const Deployment&, Width) {
                          const auto shape = image_shape(operation, operation.input(0));
                          return operation.string_attribute("mode", "DCR") != "CRD" &&
                                 operation.int_attribute("blocksize") != 1 && shape && shape->size() == 4 &&
                                 (*shape)[1] > 1;
                        }};

/// Codes are given on as they are, whatever the exponents say (QuantizationRule::passes_codes).
bool at_every_width(const Target&, int) { return true; }

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
       .chip = {.board = board_on_codes, .kernels = kAllWidths, .limits = {kOneOperand}}},
      {.name = "Split",
       .inputs = {{"input"}, optional(index_operand("split"))},
       .outputs = {variadic("outputs")},
       .attributes = {integer("axis", 0), integer("num_outputs")},
       .forward = split,
       .quantization = {.quantizable = true, .passive = true},
       .layout = LayoutRule::Axis,
       .chip = {.board = board_on_codes,
                .kernels = kAllWidths,
                .needs_all_outputs = true,
                .limits = {needs_constants<1>("sizes that the network computes"), kChunks},
                .note = "takes num_outputs for the size of a chunk where no sizes are given"}},
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
       .chip = {.board = board_on_codes,
                .kernels = kAllWidths,
                .limits = {needs_constants<1, 2, 3, 4>("a range that the network computes"), kSliceRange}}},
      {.name = "Gather",
       .inputs = {{"data"}, index_operand("indices")},
       .outputs = {{"output"}},
       .attributes = {integer("axis", 0)},
       .forward = gather,
       .quantization = {.quantizable = true, .passive = true},
       .chip = {.board = board_on_codes,
                .kernels = kAllWidths,
                .limits = {needs_constants<1>("indices that the network computes"), kNegativeIndex}}},
      {.name = "Pad",
       .inputs = {{"data"},
                  index_operand("pads"),
                  optional(operand("constant_value", OperandRole::Follows)),
                  optional(index_operand("axes"))},
       .outputs = {{"output"}},
       .attributes = {stated(text("mode", "constant"))},
       .forward = pad,
       .quantization = {.quantizable = true, .passive = true},
       .chip = {.board = board_on_codes,
                .kernels = kAllWidths,
                .limits = {needs_constants<1, 2, 3>("pads or a value that the network computes"), kWrap, kPadAxes,
                           kCrop, kFarReflection, kPadRank}}},
      {.name = "DepthToSpace",
       .inputs = {{"data"}},
       .outputs = {{"output"}},
       .attributes = {required(integer("blocksize")), text("mode", "DCR")},
       .forward = depth_to_space,
       .quantization = {.quantizable = true, .passes_codes = at_every_width},
       .layout = LayoutRule::ChannelsLast,
       .chip = {.board = board_on_codes, .kernels = kAllWidths, .limits = {kDepthFirst}}},
      {.name = "SpaceToDepth",
       .inputs = {{"data"}},
       .outputs = {{"output"}},
       .attributes = {required(integer("blocksize")), text("mode", "DCR")},
       .forward = space_to_depth,
       .quantization = {.quantizable = true, .passes_codes = at_every_width},
       .layout = LayoutRule::ChannelsLast,
       .chip = {.board = board_on_codes,
                .kernels = kAllWidths,
                .limits = {kBlockOrder},
                .note = "orders the new channels channel by channel, ONNX block by block"}},
      {.name = "Where",
       .inputs = {index_operand("condition"), operand("X", OperandRole::Mask), operand("Y", OperandRole::Mask)},
       .outputs = {{"output"}},
       .forward = where,
       .chip = {.board = board_on_values}},
  };
}

}  // namespace espq
