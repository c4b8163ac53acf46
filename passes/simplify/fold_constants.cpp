#include "passes/simplify/fold_constants.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <unordered_set>

#include "core/ops/operator.h"
#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

bool all_constant(const Operation& operation) {
  return !operation.inputs().empty() &&
         std::all_of(operation.inputs().begin(), operation.inputs().end(),
                     [](const Variable* input) { return !input || input->is_parameter(); });
}

/// True when the shapes of the outputs follow from the shapes of the operands and from constants.
bool has_static_result(const Operation& operation, const std::unordered_set<const Variable*>& is_static) {
  const OperatorDefinition& definition = definition_of(operation);
  for (size_t slot = 0; slot < operation.inputs().size(); ++slot) {
    const Variable* input = operation.input(slot);
    if (!input || input->is_parameter()) continue;
    if (!is_static.count(input)) return false;
    // The value of such an operand decides the shape (or may: Gather's indices do not, but they are data as well).
    if (definition.input_spec(slot).role == OperandRole::Index && operation.type() != "Gather") return false;
  }
  return true;
}

/// x * 0, which is what the first step of an unrolled recurrent cell makes of its state.
bool is_zero_product(const Graph& graph, const Operation& operation) {
  if (operation.type() != "Mul" || !operation.output()->shape() || graph.is_output(operation.output())) return false;
  return std::any_of(operation.inputs().begin(), operation.inputs().end(), [](const Variable* input) {
    return input && input->is_parameter() && input->value().numel() > 0 && input->value().eq(0).all().item<bool>();
  });
}

/// The operand of a Shape or Size operation in no memory: only its sizes count.
Tensors shape_operand(const Variable& input) {
  return {at::zeros({}, at::TensorOptions().dtype(input.dtype())).expand(*input.shape())};
}

}  // namespace

PassReport fold_constants(Graph& graph, const FoldConstantsOptions& options) {
  const c10::NoGradGuard no_gradient;
  PassReport report{"fold_constants"};
  std::unordered_set<const Variable*> is_static(graph.inputs().begin(), graph.inputs().end());
  for (Operation* operation : graph.topological_order()) {
    if (has_static_result(*operation, is_static))
      for (const Variable* output : operation->outputs())
        if (output && output->shape()) is_static.insert(output);
    if (is_zero_product(graph, *operation) && is_static.count(operation->output()) &&
        c10::multiply_integers(*operation->output()->shape()) <= options.max_elements) {
      const std::string name = operation->name();
      replace_by_constant(graph, *operation, at::zeros(*operation->output()->shape(), operation->output()->dtype()));
      report.count("Mul by 0 became 0", name);
      continue;
    }
    const bool reads_shape = (operation->type() == "Shape" || operation->type() == "Size") && operation->input(0) &&
                             is_static.count(operation->input(0)) && operation->input(0)->shape();
    if (!reads_shape && !all_constant(*operation)) continue;
    if (operation->outputs().size() != 1 || graph.is_output(operation->output())) continue;
    const OperatorDefinition& definition = definition_of(*operation);
    if (!definition.forward) continue;
    Tensors operands;
    int64_t largest = 0;
    for (const Variable* input : operation->inputs()) {
      operands.push_back(input ? input->value() : at::Tensor());
      if (input && input->is_parameter()) largest = std::max(largest, input->value().numel());
    }
    const int64_t limit = std::max(options.max_elements, largest);
    if (const auto& shape = operation->output()->shape(); shape && c10::multiply_integers(*shape) > limit) continue;
    const std::string type = operation->type(), name = operation->name();
    const at::Tensor value =
        definition.forward({*operation}, reads_shape ? shape_operand(*operation->input(0)) : operands).at(0);
    if (value.numel() > limit) continue;
    replace_by_constant(graph, *operation, value);
    report.count(type + " of constants computed", name);
  }
  return report;
}

}  // namespace espq
