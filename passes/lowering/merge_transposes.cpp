#include <unordered_set>

#include "core/graph/match.h"
#include "core/ops/operator.h"
#include "core/support/error.h"
#include "passes/lowering/formats.h"
#include "passes/lowering/permutation.h"
#include "passes/lowering/steps.h"

namespace espq::lowering {
namespace {

Permutation perm_of(const Operation& transpose) {
  const auto rank = static_cast<int>(transpose.input(0)->shape().value().size());
  Permutation result;
  if (!transpose.has("perm")) {
    for (int axis = rank - 1; axis >= 0; --axis) result.push_back(axis);
    return result;
  }
  for (int64_t axis : transpose.ints_attribute("perm"))
    result.push_back(static_cast<int>(axis < 0 ? axis + rank : axis));
  return result;
}

/// The Transpose that alone reads the operation's result; nullptr when there is none.
Operation* only_transpose(const Graph& graph, Operation& operation) {
  Operation* reader = operation.outputs().size() == 1 ? sole_consumer(graph, *operation.output()) : nullptr;
  return reader && reader->type() == "Transpose" ? reader : nullptr;
}

/// Element by element, and its constants have one element: the order of the elements does not matter.
bool ignores_order(const Operation& operation) {
  if (definition_of(operation).layout != LayoutRule::Elementwise) return false;
  for (size_t slot = 1; slot < operation.inputs().size(); ++slot)
    if (operation.input(slot) &&
        (!operation.input(slot)->is_parameter() || operation.input(slot)->value().numel() != 1))
      return false;
  return true;
}

/// Removes operations; remembers which, as callers walk an order that was made before.
class TransposeMerger {
 public:
  explicit TransposeMerger(Graph& graph) : graph_(graph) {}

  PassReport run() {
    for (Operation* operation : graph_.topological_order())
      if (is_transpose(operation)) move_behind_function(*operation);
    for (Operation* operation : graph_.topological_order()) {
      if (!is_transpose(operation)) continue;
      for (Operation* next = only_transpose(graph_, *operation); next && same_grid(*operation, *next);
           next = only_transpose(graph_, *operation))
        absorb(*operation, *next);
      if (is_identity(perm_of(*operation))) remove_identity(*operation);
    }
    return report_;
  }

 private:
  bool is_transpose(const Operation* operation) const {
    return !removed_.count(operation) && operation->type() == "Transpose";
  }

  void remove(Operation& operation) {
    removed_.insert(&operation);
    graph_.remove(operation);
  }

  /// Transpose - function - Transpose becomes function - Transpose.
  void move_behind_function(Operation& first) {
    Operation* function = sole_consumer(graph_, *first.output());
    if (!function || !ignores_order(*function) || function->input(0) != first.output()) return;
    Operation* second = only_transpose(graph_, *function);
    if (!second) return;
    const Permutation order = perm_of(first);
    report_.count("Transpose moved behind a function", function->name());
    Variable* source = first.input(0);
    Variable* between = first.output();
    graph_.set_input(*function, 0, source);
    remove(first);
    graph_.remove(*between);
    Variable* result = function->output();
    const Permutation before = result->permutation().empty() ? identity(order.size()) : result->permutation();
    const Permutation after = compose(before, inverse(order));
    result->set_permutation(is_identity(after) ? Permutation{} : after);
    second->set_attribute("perm", to_attribute(compose(order, perm_of(*second))));
    result->set_shape(source->shape());
    if (is_identity(perm_of(*second))) remove_identity(*second);
  }

  /// What the first writes is what the second reads, without a conversion between them.
  bool same_grid(const Operation& first, const Operation& second) const {
    if (!first.quantized() || !second.quantized()) return true;  // the conversion comes in front of both, or behind
    const SlotQuant &written = first.output_quant().at(0), &read = second.input_quant().at(0);
    if (written.is_float() || read.is_float()) return written.is_float() == read.is_float();
    return slot_grid(graph_, written) == slot_grid(graph_, read);
  }

  /// `first` does the work of both and writes what `second` wrote.
  void absorb(Operation& first, Operation& second) {
    const Permutation both = compose(perm_of(first), perm_of(second));
    report_.count("Transposes in a row merged", first.name());
    Variable* between = first.output();
    Variable* result = second.output();
    if (first.quantized() && second.quantized()) first.edit_output_quant(0) = second.output_quant().at(0);
    remove(second);
    graph_.set_output(first, 0, result);
    graph_.remove(*between);
    first.set_attribute("perm", to_attribute(both));
  }

  void remove_identity(Operation& transpose) {
    Variable* source = transpose.input(0);
    Variable* result = transpose.output();
    const bool leaves = graph_.is_output(result);
    if (leaves && (!source->producer() || graph_.is_output(source))) return;  // the graph output would lose its name
    const std::vector<int> permutation = result->permutation();
    report_.count("idle Transpose removed", transpose.name());
    removed_.insert(&transpose);
    graph_.bypass(transpose);
    if (leaves) result->set_permutation(permutation);
  }

  Graph& graph_;
  std::unordered_set<const Operation*> removed_;
  PassReport report_{"merge_transposes"};
};

}  // namespace

PassReport merge_transposes(Graph& graph) { return TransposeMerger(graph).run(); }

}  // namespace espq::lowering
