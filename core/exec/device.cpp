#include "core/exec/device.h"

#include "core/ops/operator.h"

namespace espq {

void move_parameters(Graph& graph, at::Device device) {
  for (Operation* operation : graph.operations()) {
    const OperatorDefinition& definition = definition_of(*operation);
    for (size_t slot = 0; slot < operation->inputs().size(); ++slot) {
      Variable* variable = operation->input(slot);
      if (!variable || !variable->is_parameter() || !variable->value().is_floating_point()) continue;
      if (definition.input_spec(slot).role == OperandRole::Index) continue;
      variable->set_value(variable->value().to(device));
    }
  }
}

}  // namespace espq
