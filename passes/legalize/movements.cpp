// Operators that move elements: attributes that the chip library does not read, or reads otherwise.
#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>

#include <numeric>

#include "core/graph/edit.h"
#include "core/graph/match.h"
#include "core/ops/arguments.h"
#include "core/ops/operator.h"
#include "passes/legalize/rewriter.h"
#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

/// Negative indices count from the end; the library does not know that.
std::string wrap_indices(Rewriter& rewriter) {
  Operation& gather = rewriter.origin();
  const Variable* indices = gather.input(1);
  if (!indices || !indices->is_parameter()) return {};
  const at::Tensor given = indices->value().to(at::kLong);
  if (!given.lt(0).any().item<bool>()) return {};
  const Shape& shape = rewriter.shape(0);
  if (gather.type() == "Gather") {
    const int64_t axis = wrap_axis(gather, gather.int_attribute("axis", 0), static_cast<int64_t>(shape.size()));
    set_constant(rewriter.graph(), gather, 1, at::where(given < 0, given + shape[axis], given),
                 gather.name() + "_indices");
  } else {  // tuples along the last axis
    const at::Tensor sizes = integer_tensor(shape).slice(0, 0, given.size(-1));
    set_constant(rewriter.graph(), gather, 1, at::where(given < 0, given + sizes, given), gather.name() + "_indices");
  }
  return "negative indices of " + gather.type() + " wrapped";
}

std::string state_split_sizes(Rewriter& rewriter) {
  Operation& split = rewriter.origin();
  if (split.input(1)) return {};
  const int64_t axis = wrap_axis(split, split.int_attribute("axis", 0), static_cast<int64_t>(rewriter.shape(0).size()));
  std::vector<int64_t> sizes;
  for (const Variable* output : split.outputs()) {
    if (!output || !output->shape()) return {};
    sizes.push_back(output->shape()->at(axis));
  }
  Variable& stated = rewriter.constant("sizes", sizes);
  rewriter.become("Split", {split.input(0), &stated}, {{"axis", axis}});
  return "sizes of Split stated";
}

/// The library reads the order without asking whether there is one.
std::string state_order(Rewriter& rewriter) {
  Operation& transpose = rewriter.origin();
  if (transpose.has("perm")) return {};
  Shape order(rewriter.shape(0).size());
  std::iota(order.rbegin(), order.rend(), 0);
  transpose.set_attribute("perm", order);
  return "order of Transpose stated";
}

/// The library copies no axes, and does not know how many -1 stands for where an axis is 0.
std::string state_shape(Rewriter& rewriter) {
  Operation& reshape = rewriter.origin();
  const auto& shape = reshape.output()->shape();
  if (!shape || std::find(shape->begin(), shape->end(), 0) != shape->end()) return {};
  const auto given = integer_constant(reshape.input(1));
  if (given && std::find(given->begin(), given->end(), 0) == given->end()) return {};
  set_constant(rewriter.graph(), reshape, 1, integer_tensor(*shape), reshape.name() + "_shape");
  reshape.set_attribute("allowzero", int64_t{0});
  return "shape of Reshape stated";
}

/// The library does not bring starts outside the axis back to it.
std::string state_range(Rewriter& rewriter) {
  Operation& slice = rewriter.origin();
  auto starts = integer_constant(slice.input(1)), ends = integer_constant(slice.input(2));
  const auto axes = integer_constant(slice.input(3)), steps = integer_constant(slice.input(4));
  if (!starts || !ends || (slice.input(3) && !axes) || (slice.input(4) && !steps)) return {};
  const Shape& shape = rewriter.shape(0);
  for (size_t i = 0; i < starts->size(); ++i) {
    const auto axis =
        wrap_axis(slice, axes ? axes->at(i) : static_cast<int64_t>(i), static_cast<int64_t>(shape.size()));
    const int64_t size = shape[axis];
    const bool forwards = !steps || steps->at(i) > 0;
    for (auto* bound : {&(*starts)[i], &(*ends)[i]})
      if (*bound < 0) *bound = std::max(*bound, -size - 1) + size;  // -1: in front of the axis
    (*starts)[i] = std::clamp<int64_t>((*starts)[i], 0, forwards ? size : size - 1);
    (*ends)[i] = forwards ? std::clamp<int64_t>((*ends)[i], 0, size) : (*ends)[i] < 0 ? INT64_MIN : (*ends)[i];
  }
  set_constant(rewriter.graph(), slice, 1, integer_tensor(*starts), slice.name() + "_starts");
  set_constant(rewriter.graph(), slice, 2, integer_tensor(*ends), slice.name() + "_ends");
  return "range of Slice stated";
}

/// The library counts every axis from the end of a tensor with one axis more.
std::string count_axes_from_front(Rewriter& rewriter) {
  Operation& unsqueeze = rewriter.origin();
  auto axes = integer_constant(unsqueeze.input(1));
  if (!axes) return {};
  const auto rank = static_cast<int64_t>(rewriter.shape(0).size() + axes->size());
  for (int64_t& axis : *axes) axis = wrap_axis(unsqueeze, axis, rank);
  set_constant(rewriter.graph(), unsqueeze, 1, integer_tensor(*axes), unsqueeze.name() + "_axes");
  return "axes of Unsqueeze counted from the front";
}

// ------------------------------------------------------------------------------------------------ Pad
struct Amounts {
  std::vector<int64_t> begin, end;  ///< one per axis of the input
};

std::optional<Amounts> amounts_of(const Operation& pad, const Shape& input) {
  const auto given = integer_constant(pad.input(1));
  const auto rank = static_cast<int64_t>(input.size());
  std::vector<int64_t> axes(input.size());
  std::iota(axes.begin(), axes.end(), 0);
  if (pad.input(3)) {
    const auto listed = integer_constant(pad.input(3));
    if (!listed) return std::nullopt;
    axes.clear();
    for (const int64_t axis : *listed) axes.push_back(wrap_axis(pad, axis, rank));
  }
  if (!given || given->size() != 2 * axes.size()) return std::nullopt;
  Amounts amounts{std::vector<int64_t>(input.size(), 0), std::vector<int64_t>(input.size(), 0)};
  for (size_t i = 0; i < axes.size(); ++i) {
    amounts.begin[axes[i]] = (*given)[i];
    amounts.end[axes[i]] = (*given)[i + axes.size()];
  }
  return amounts;
}

/// Amounts below zero take elements away.
void crop(Rewriter& rewriter, Amounts& amounts) {
  const Shape input = rewriter.shape(0);
  std::vector<int64_t> starts, ends, axes;
  for (size_t axis = 0; axis < input.size(); ++axis) {
    if (amounts.begin[axis] >= 0 && amounts.end[axis] >= 0) continue;
    starts.push_back(std::max<int64_t>(0, -amounts.begin[axis]));
    ends.push_back(input[axis] - std::max<int64_t>(0, -amounts.end[axis]));
    axes.push_back(static_cast<int64_t>(axis));
    amounts.begin[axis] = std::max<int64_t>(0, amounts.begin[axis]);
    amounts.end[axis] = std::max<int64_t>(0, amounts.end[axis]);
  }
  if (axes.empty()) return;
  rewriter.before(0, "Slice", "crop",
                  {&rewriter.constant("crop_start", starts), &rewriter.constant("crop_end", ends),
                   &rewriter.constant("crop_axes", axes)});
}

/// Amounts for every axis, none below zero.
std::string pad_constant(Rewriter& rewriter) {
  Operation& pad = rewriter.origin();
  auto amounts = amounts_of(pad, rewriter.shape(0));
  if (!amounts) return {};
  const auto is_negative = [](int64_t amount) { return amount < 0; };
  if (!pad.input(3) && std::none_of(amounts->begin.begin(), amounts->begin.end(), is_negative) &&
      std::none_of(amounts->end.begin(), amounts->end.end(), is_negative))
    return {};
  crop(rewriter, *amounts);
  std::vector<int64_t> pads = amounts->begin;
  pads.insert(pads.end(), amounts->end.begin(), amounts->end.end());
  Variable& stated = rewriter.constant("pads", pads);
  Variable* value = pad.input(2);
  rewriter.become("Pad", {pad.input(0), &stated}, {{"mode", std::string("constant")}});
  if (value) rewriter.graph().append_input(pad, value);
  return "pads of Pad stated";
}

/// Padding that repeats elements is a choice of elements along each axis.
std::string pad_by_elements(Rewriter& rewriter) {
  if (!amounts_of(rewriter.origin(), rewriter.shape(0))) return {};
  return rewriter.become_gathers() ? "Pad became Gather" : "";
}

std::string pad(Rewriter& rewriter) {
  return rewriter.origin().string_attribute("mode", "constant") == "constant" ? pad_constant(rewriter)
                                                                              : pad_by_elements(rewriter);
}

// ------------------------------------------------------------------------------------------------ blocks
/// ONNX orders channels block by block, CRD channel by channel.
std::string depth_to_space(Rewriter& rewriter) {
  Operation& operation = rewriter.origin();
  if (operation.string_attribute("mode", "DCR") != "DCR") return {};
  const int64_t block = operation.int_attribute("blocksize"), area = block * block;
  const int64_t channels = rewriter.shape(0).at(1) / area;
  std::vector<int64_t> order;
  for (int64_t channel = 0; channel < channels; ++channel)
    for (int64_t place = 0; place < area; ++place) order.push_back(place * channels + channel);
  rewriter.graph().set_input(operation, 0, &rewriter.pick(*operation.input(0), 1, order, "order"));
  operation.set_attribute("mode", std::string("CRD"));
  return "channels of DepthToSpace ordered";
}

std::string space_to_depth(Rewriter& rewriter) {
  Operation& operation = rewriter.origin();
  if (operation.string_attribute("mode", "DCR") != "DCR") return {};
  const int64_t block = operation.int_attribute("blocksize"), area = block * block;
  const int64_t channels = rewriter.shape(0).at(1);
  std::vector<int64_t> order;
  for (int64_t place = 0; place < area; ++place)
    for (int64_t channel = 0; channel < channels; ++channel) order.push_back(channel * area + place);
  operation.set_attribute("mode", std::string("CRD"));
  rewriter.pick_after(1, order, "order");
  return "channels of SpaceToDepth ordered";
}

// ------------------------------------------------------------------------------------------------ repetition
/// True when every reader computes the same from the smaller tensor, because it broadcasts.
bool readers_broadcast(const Graph& graph, const Variable& large, const Shape& small) {
  if (graph.is_output(&large)) return false;
  for (const ConstUse use : large.uses()) {
    const Operation& reader = *use.operation;
    if (definition_of(reader).layout != LayoutRule::Broadcast || reader.inputs().size() != 2) return false;
    const Variable* other = reader.input(1 - use.slot);
    if (other == &large || !other || !other->shape() || !reader.output()->shape()) return false;
    if (at::infer_size(small, *other->shape()) != *reader.output()->shape()) return false;
  }
  return !large.uses().empty();
}

/// Repetition along axes: elements picked again, or nothing at all where the readers broadcast.
std::string repeat(Rewriter& rewriter) {
  Operation& operation = rewriter.origin();
  const std::string type = operation.type();
  Variable* value = operation.input(0);
  const Shape from = rewriter.shape(0);
  const auto& to = operation.output()->shape();
  if (!to || to->size() < from.size() || value->is_parameter()) return {};
  if (type == "Expand" && readers_broadcast(rewriter.graph(), *operation.output(), from)) {
    rewriter.graph().bypass(operation);
    return "Expand left to the broadcast of its readers";
  }
  Shape padded(to->size() - from.size(), 1);
  padded.insert(padded.end(), from.begin(), from.end());
  if (padded.size() != from.size())
    value = &rewriter.add("Reshape", "rank", {value, &rewriter.constant("rank_shape", padded)});
  for (size_t axis = 0; axis < padded.size(); ++axis) {
    if (padded[axis] == to->at(axis)) continue;
    std::vector<int64_t> indices;
    for (int64_t i = 0; i < to->at(axis); ++i) indices.push_back(i % padded[axis]);
    value = &rewriter.pick(*value, static_cast<int64_t>(axis), indices, fmt::format("axis{}", axis));
  }
  Variable& shape = rewriter.constant("shape", *to);
  rewriter.become("Reshape", {value, &shape});
  return type + " became Gather";
}

// ------------------------------------------------------------------------------------------------ ReverseSequence
/// The library turns what lies along the first two axes.
std::string axes_in_front(Rewriter& rewriter) {
  Operation& operation = rewriter.origin();
  const auto rank = static_cast<int64_t>(rewriter.shape(0).size());
  const int64_t time = wrap_axis(operation, operation.int_attribute("time_axis", 0), rank);
  const int64_t batch = wrap_axis(operation, operation.int_attribute("batch_axis", 1), rank);
  if (time == batch) return {};
  const auto state = [&](int64_t time_axis, int64_t batch_axis) {
    operation.set_attribute("time_axis", time_axis);
    operation.set_attribute("batch_axis", batch_axis);
  };
  if (time < 2 && batch < 2) {
    if (operation.int_attribute("time_axis", 0) == time && operation.int_attribute("batch_axis", 1) == batch) return {};
    state(time, batch);
    return "axes of ReverseSequence counted from the front";
  }
  Shape order{time, batch}, back(static_cast<size_t>(rank));
  for (int64_t axis = 0; axis < rank; ++axis)
    if (axis != time && axis != batch) order.push_back(axis);
  for (int64_t axis = 0; axis < rank; ++axis) back[static_cast<size_t>(order[static_cast<size_t>(axis)])] = axis;
  rewriter.before(0, "Transpose", "ordered", {}, {{"perm", order}});
  state(0, 1);
  rewriter.after("Transpose", "back", {}, {{"perm", back}});
  return "axes of ReverseSequence brought in front";
}

}  // namespace

std::vector<RewriteRule> movement_rewrites() {
  return {{"Gather", wrap_indices},
          {"ScatterND", wrap_indices},
          {"Split", state_split_sizes},
          {"Slice", state_range},
          {"Unsqueeze", count_axes_from_front},
          {"Transpose", state_order, true},
          {"Reshape", state_shape, true},
          {"Pad", pad},
          {"DepthToSpace", depth_to_space},
          {"SpaceToDepth", space_to_depth},
          {"Expand", repeat},
          {"Tile", repeat},
          {"ReverseSequence", axes_in_front}};
}

}  // namespace espq
