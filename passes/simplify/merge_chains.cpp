#include "passes/simplify/merge_chains.h"

#include "core/graph/match.h"
#include "core/ops/operator.h"
#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

/// Order of the axes; ONNX reverses them when the attribute is absent.
std::optional<Shape> order_of(const Operation& transpose) {
  if (transpose.has("perm")) return transpose.ints_attribute("perm");
  const auto rank = rank_of(transpose.input(0));
  if (!rank) return std::nullopt;
  Shape order;
  for (int64_t axis = *rank; axis-- > 0;) order.push_back(axis);
  return order;
}

bool merge_transposes(Graph& graph, Operation& second) {
  Operation* first = producer_of(second.input(0), "Transpose");
  if (second.type() != "Transpose" || !first) return false;
  const auto inner = order_of(*first), outer = order_of(second);
  if (!inner || !outer || inner->size() != outer->size()) return false;
  Shape order;
  for (const int64_t axis : *outer) order.push_back((*inner)[axis]);
  second.set_attribute("perm", order);
  graph.set_input(second, 0, first->input(0));
  return true;
}

/// Keeps the elements in row-major order and gives them another shape.
bool only_reshapes(const Operation* operation) {
  return operation && (operation->type() == "Reshape" || operation->type() == "Flatten" ||
                       operation->type() == "Squeeze" || operation->type() == "Unsqueeze");
}

bool is_literal(const std::optional<Shape>& shape) {
  return shape && std::find(shape->begin(), shape->end(), 0) == shape->end();
}

/// `operation` becomes a Reshape of `source` to the shape that it had. A Reshape whose target does not copy dimensions
/// of its operand stays as the model says it.
void reshape_from(Graph& graph, Operation& operation, Variable& source) {
  if (operation.type() == "Reshape" && is_literal(integer_constant(operation.input(1))))
    return graph.set_input(operation, 0, &source);
  const at::Tensor target = integer_tensor(*operation.output()->shape());
  Variable* shape = operation.type() == "Reshape" ? operation.input(1) : nullptr;
  become(graph, operation, "Reshape", {&source});
  if (shape && shape->uses().empty() && shape->is_parameter() && !graph.is_output(shape)) {
    graph.append_input(operation, shape);
    set_constant(graph, operation, 1, target, shape->name());
  } else {
    graph.append_input(operation, &graph.add_parameter(free_variable_name(graph, operation.name() + "_shape"), target));
  }
}

bool merge_reshapes(Graph& graph, Operation& second) {
  Operation* first = second.input(0) ? second.input(0)->producer() : nullptr;
  if (!only_reshapes(&second) || !only_reshapes(first) || !is_literal(second.output()->shape())) return false;
  reshape_from(graph, second, *first->input(0));
  return true;
}

/// Sizes other than 1, with their axes.
std::vector<std::pair<int64_t, int64_t>> wide_axes(const Shape& shape) {
  std::vector<std::pair<int64_t, int64_t>> result;
  for (size_t axis = 0; axis < shape.size(); ++axis)
    if (shape[axis] != 1) result.emplace_back(static_cast<int64_t>(axis), shape[axis]);
  return result;
}

/// True when the shapes differ by axes of size 1 alone.
bool same_but_for_ones(const Shape& a, const Shape& b) {
  const auto left = wide_axes(a), right = wide_axes(b);
  return std::equal(left.begin(), left.end(), right.begin(), right.end(),
                    [](const auto& x, const auto& y) { return x.second == y.second; });
}

/// The slot that a chain of element-wise operations passes through: that of an operand with the result's own shape,
/// beside which there are only constants.
std::optional<size_t> chain_slot(const Operation& operation) {
  if (operation.outputs().size() != 1 || !operation.output()->shape()) return std::nullopt;
  const LayoutRule layout = definition_of(operation).layout;
  const bool broadcasts = layout == LayoutRule::Broadcast && operation.inputs().size() == 2;
  if (!broadcasts && layout != LayoutRule::Elementwise) return std::nullopt;
  const auto constant = broadcasts ? constant_operand(operation) : std::nullopt;
  if (broadcasts && !constant) return std::nullopt;
  const size_t slot = constant ? 1 - *constant : 0;
  if (!operation.input(slot) || operation.input(slot)->shape() != operation.output()->shape()) return std::nullopt;
  for (size_t other = 0; !broadcasts && other < operation.inputs().size(); ++other)
    if (other != slot && operation.input(other) && !scalar_constant(operation.input(other))) return std::nullopt;
  return slot;
}

/// The constant of an element-wise operation on tensors of shape `now`, as it has to be for those of shape `before`.
std::optional<at::Tensor> constant_for(const Variable& constant, const Shape& now, const Shape& before) {
  const at::Tensor& value = constant.value();
  if (value.numel() == 1) return value;
  if (value.dim() > static_cast<int64_t>(now.size()) || !same_but_for_ones(now, before)) return std::nullopt;
  const auto from = wide_axes(now), to = wide_axes(before);
  const int64_t missing = static_cast<int64_t>(now.size()) - value.dim();
  Shape shape(before.size(), 1);
  for (size_t i = 0; i < from.size(); ++i)
    if (from[i].first >= missing) shape[to[i].first] = value.size(from[i].first - missing);
  return value.reshape(shape);
}

/// Operations between two Reshapes, the last one first, and for each the operand that comes from the one before.
struct Between {
  std::vector<std::pair<Operation*, size_t>> operations;
  Operation* first = nullptr;  ///< the Reshape
};

Between between_reshapes(const Graph& graph, Operation& second) {
  Between found;
  Operation* reader = &second;
  size_t slot = 0;
  while (Operation* producer = reader->input(slot)->producer()) {
    if (sole_consumer(graph, *reader->input(slot)) != reader) return {};
    if (only_reshapes(producer)) {
      found.first = producer;
      return found;
    }
    const auto next = chain_slot(*producer);
    if (!next) return {};
    found.operations.emplace_back(producer, *next);
    reader = producer;
    slot = *next;
  }
  return {};
}

bool move_reshape_behind(Graph& graph, Operation& second) {
  if (!only_reshapes(&second) || !is_literal(second.output()->shape())) return false;
  const Between between = between_reshapes(graph, second);
  if (!between.first || between.operations.empty() || !between.first->input(0)->shape()) return false;
  const Shape now = *between.first->output()->shape(), before = *between.first->input(0)->shape();
  std::vector<std::optional<at::Tensor>> constants;
  for (const auto& [operation, slot] : between.operations) {
    const auto constant = constant_operand(*operation);
    constants.push_back(std::nullopt);
    if (!constant || definition_of(*operation).layout != LayoutRule::Broadcast) continue;
    constants.back() = constant_for(*operation->input(*constant), now, before);
    if (!constants.back()) return false;
  }
  for (size_t i = 0; i < constants.size(); ++i) {
    Operation& operation = *between.operations[i].first;
    if (const auto& value = constants[i]; value && value->numel() > 1) {
      const size_t slot = *constant_operand(operation);
      set_constant(graph, operation, slot, *value, operation.input(slot)->name());
    }
    operation.output()->set_shape(before);
  }
  const auto& [reader, slot] = between.operations.back();
  graph.set_input(*reader, slot, between.first->input(0));
  reshape_from(graph, second, *between.operations.front().first->output());
  return true;
}

/// MatMul, Reshape, Add of a constant: the Add goes first, where it becomes a bias.
bool move_offset_ahead(Graph& graph, Operation& sum) {
  if (sum.type() != "Add" && sum.type() != "Sub") return false;
  const auto slot = chain_slot(sum);
  Operation* reshape = slot ? sum.input(*slot)->producer() : nullptr;
  if (!only_reshapes(reshape) || sole_consumer(graph, *reshape->output()) != &sum) return false;
  Variable& source = *reshape->input(0);
  const Operation* layer = sole_consumer(graph, source) == reshape ? source.producer() : nullptr;
  if (!layer || (layer->type() != "MatMul" && layer->type() != "Gemm" && layer->type() != "Conv")) return false;
  if (!source.shape() || !is_literal(sum.output()->shape())) return false;
  const auto value = constant_for(*sum.input(1 - *slot), *sum.output()->shape(), *source.shape());
  if (!value) return false;
  Variable &result = *sum.output(), &between = *reshape->output();
  set_constant(graph, sum, 1 - *slot, *value, sum.input(1 - *slot)->name());
  graph.set_input(sum, *slot, &source);
  graph.set_output(sum, 0, &add_value(graph, result, source.shape()));
  graph.set_output(*reshape, 0, &result);
  graph.set_input(*reshape, 0, sum.output());
  graph.remove(between);
  return true;
}

/// An order of the axes of `shape` in which those not of size 1 come as `wide` says: channels last, which lowering
/// takes away again, where that is one.
Shape order_with(const Shape& shape, const Shape& wide) {
  Shape result{0};
  for (size_t axis = 2; axis < shape.size(); ++axis) result.push_back(static_cast<int64_t>(axis));
  if (shape.size() > 1) result.push_back(1);
  Shape order = result;
  order.erase(std::remove_if(order.begin(), order.end(), [&](int64_t axis) { return shape[axis] == 1; }), order.end());
  if (order == wide) return result;
  result.clear();
  for (size_t axis = 0; axis < shape.size(); ++axis)
    if (shape[axis] == 1) result.push_back(static_cast<int64_t>(axis));
  result.insert(result.end(), wide.begin(), wide.end());
  return result;
}

/// Squeeze (Unsqueeze), Transpose, Reshape: the Transpose moves to the front, where it meets the channels-last layout
/// of what a convolution or a pool wrote, and the two others become one.
bool move_transpose_ahead(Graph& graph, Operation& last) {
  if (!only_reshapes(&last) || !is_literal(last.output()->shape())) return false;
  Operation* transpose = private_producer_of(graph, last, 0, "Transpose");
  if (!transpose || sole_consumer(graph, *transpose->input(0)) != transpose) return false;
  Operation* first = transpose->input(0)->producer();
  if (!only_reshapes(first) || !first->input(0)->shape() || !first->output()->shape()) return false;
  const Shape now = *first->output()->shape(), before = *first->input(0)->shape();
  const auto order = order_of(*transpose);
  if (!order || !same_but_for_ones(now, before)) return false;
  const auto from = wide_axes(now), to = wide_axes(before);
  Shape wide;
  for (const int64_t axis : *order)
    for (size_t i = 0; i < from.size(); ++i)
      if (from[i].first == axis) wide.push_back(to[i].first);
  const Shape ahead = order_with(before, wide);
  Shape shape;
  for (const int64_t axis : ahead) shape.push_back(before[axis]);
  transpose->set_attribute("perm", ahead);
  graph.set_input(*transpose, 0, first->input(0));
  transpose->output()->set_shape(shape);
  reshape_from(graph, last, *transpose->output());
  return true;
}

// ------------------------------------------------------------------------------------------------ Slice
struct SliceRange {
  Shape starts, ends, axes, steps;
};

std::optional<SliceRange> range_of(const Operation& slice) {
  const auto rank = rank_of(slice.input(0));
  const auto starts = integer_constant(slice.input(1)), ends = integer_constant(slice.input(2));
  if (!rank || !starts || !ends || starts->size() != ends->size()) return std::nullopt;
  SliceRange range{*starts, *ends, {}, Shape(starts->size(), 1)};
  for (size_t i = 0; i < starts->size(); ++i) range.axes.push_back(static_cast<int64_t>(i));
  if (slice.input(3)) {
    const auto axes = integer_constant(slice.input(3));
    if (!axes || axes->size() != starts->size()) return std::nullopt;
    range.axes = *axes;
    for (int64_t& axis : range.axes)
      if (axis < 0) axis += *rank;
  }
  if (slice.input(4)) {
    const auto steps = integer_constant(slice.input(4));
    if (!steps || steps->size() != starts->size()) return std::nullopt;
    range.steps = *steps;
  }
  return range;
}

bool along_other_axes(const SliceRange& first, const std::optional<SliceRange>& second) {
  return second && std::none_of(second->axes.begin(), second->axes.end(), [&](int64_t axis) {
           return std::find(first.axes.begin(), first.axes.end(), axis) != first.axes.end();
         });
}

/// Along different axes two slices are independent: the second takes the first one's ranges, too. Only when all readers
/// of the first one can do so, since it would stay otherwise.
bool merge_slices(Graph& graph, Operation& second) {
  Operation* first = producer_of(second.input(0), "Slice");
  if (second.type() != "Slice" || !first || graph.is_output(first->output())) return false;
  auto range = range_of(*first);
  if (!range) return false;
  for (const Use& use : first->output()->uses())
    if (use.operation->type() != "Slice" || use.slot != 0 || !along_other_axes(*range, range_of(*use.operation)))
      return false;
  const auto other = range_of(second);
  const auto join = [](Shape& list, const Shape& more) { list.insert(list.end(), more.begin(), more.end()); };
  join(range->starts, other->starts);
  join(range->ends, other->ends);
  join(range->axes, other->axes);
  join(range->steps, other->steps);
  std::vector<Variable*> inputs{first->input(0)};
  const char* suffixes[] = {"_starts", "_ends", "_axes", "_steps"};
  const Shape* lists[] = {&range->starts, &range->ends, &range->axes, &range->steps};
  for (size_t i = 0; i < 4; ++i)
    inputs.push_back(
        &graph.add_parameter(free_variable_name(graph, second.name() + suffixes[i]), integer_tensor(*lists[i])));
  become(graph, second, "Slice", inputs);
  return true;
}

// ------------------------------------------------------------------------------------------------ Transpose in
// disguise
/// Where an axis of size 1 moves only, converters write a Reshape from channels last to channels first. In front of
/// convolutions and pools the Transpose that it is meets the layout of the chip, and both vanish.
bool reshape_to_transpose(Graph& graph, Operation& operation) {
  if (operation.type() != "Reshape" || graph.is_output(operation.output()) || operation.output()->uses().empty())
    return false;
  if (!operation.input(0)->shape() || !operation.output()->shape()) return false;
  const Shape &from = *operation.input(0)->shape(), &to = *operation.output()->shape();
  const size_t rank = from.size();
  if (rank < 3 || rank > 4 || to.size() != rank || from == to || !same_but_for_ones(from, to)) return false;
  Shape order{0, static_cast<int64_t>(rank) - 1};
  for (size_t axis = 1; axis + 1 < rank; ++axis) order.push_back(static_cast<int64_t>(axis));
  for (size_t axis = 0; axis < rank; ++axis)
    if (to[axis] != from[order[axis]]) return false;
  for (const Use& use : operation.output()->uses())
    if (use.slot != 0 || definition_of(*use.operation).layout != LayoutRule::ChannelsLast) return false;
  become(graph, operation, "Transpose", {operation.input(0)}, {{"perm", order}});
  return true;
}

}  // namespace

PassReport merge_chains(Graph& graph, const MergeChainsOptions& options) {
  PassReport report{"merge_chains"};
  for (Operation* operation : graph.operations()) {
    if (is_dead(graph, *operation) || operation->outputs().empty() || !operation->output()) continue;
    if (merge_transposes(graph, *operation)) report.count("Transposes in a row merged", operation->name());
    if (merge_reshapes(graph, *operation)) report.count("Reshapes in a row merged", operation->name());
    if (move_reshape_behind(graph, *operation))
      report.count("Reshape moved behind an element-wise operation", operation->name());
    if (merge_slices(graph, *operation)) report.count("Slices in a row merged", operation->name());
    if (!options.across_reshapes) continue;
    if (move_offset_ahead(graph, *operation)) report.count("offset moved in front of a Reshape", operation->name());
    if (move_transpose_ahead(graph, *operation))
      report.count("Transpose moved in front of a Reshape", operation->name());
    if (reshape_to_transpose(graph, *operation)) report.count("Reshape became a Transpose", operation->name());
  }
  return report;
}

}  // namespace espq
