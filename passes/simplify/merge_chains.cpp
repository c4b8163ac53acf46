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

/// One operand of the operation's own shape, and no others but constants with one element.
bool is_elementwise(const Operation& operation) {
  if (operation.outputs().size() != 1 || definition_of(operation).layout != LayoutRule::Elementwise) return false;
  if (!operation.input(0) || operation.input(0)->shape() != operation.output()->shape()) return false;
  for (size_t slot = 1; slot < operation.inputs().size(); ++slot)
    if (operation.input(slot) && !scalar_constant(operation.input(slot))) return false;
  return true;
}

bool move_reshape_behind(Graph& graph, Operation& second) {
  if (!only_reshapes(&second) || !is_literal(second.output()->shape())) return false;
  Operation* reader = &second;
  std::vector<Operation*> between;
  while (sole_consumer(graph, *reader->input(0)) == reader && reader->input(0)->producer() &&
         is_elementwise(*reader->input(0)->producer())) {
    reader = reader->input(0)->producer();
    between.push_back(reader);
  }
  Operation* first = reader->input(0)->producer();
  if (between.empty() || !only_reshapes(first) || sole_consumer(graph, *reader->input(0)) != reader) return false;
  if (!first->input(0)->shape()) return false;
  graph.set_input(*reader, 0, first->input(0));
  for (Operation* operation : between) operation->output()->set_shape(first->input(0)->shape());
  reshape_from(graph, second, *between.front()->output());
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

}  // namespace

PassReport merge_chains(Graph& graph) {
  PassReport report{"merge_chains"};
  for (Operation* operation : graph.operations()) {
    if (is_dead(graph, *operation) || operation->outputs().empty() || !operation->output()) continue;
    if (merge_transposes(graph, *operation)) report.count("Transposes in a row merged", operation->name());
    if (merge_reshapes(graph, *operation)) report.count("Reshapes in a row merged", operation->name());
    if (move_reshape_behind(graph, *operation))
      report.count("Reshape moved behind an element-wise operation", operation->name());
    if (merge_slices(graph, *operation)) report.count("Slices in a row merged", operation->name());
  }
  return report;
}

}  // namespace espq
