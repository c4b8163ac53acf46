#include "passes/simplify/remove_dead_code.h"

namespace espq {

PassReport remove_dead_code(Graph& graph) {
  PassReport report{"remove_dead_code"};
  const auto alive = operations_behind({graph.outputs().begin(), graph.outputs().end()});
  for (Operation* operation : graph.operations()) {
    if (alive.count(operation)) continue;
    report.count("unused " + operation->type() + " removed", operation->name());
    graph.remove(*operation);
  }
  for (Variable* variable : graph.variables())
    if (!variable->producer() && variable->uses().empty() && !graph.is_input(variable) && !graph.is_output(variable))
      graph.remove(*variable);
  return report;
}

}  // namespace espq
