#include "passes/simplify/separate_parameters.h"

#include "passes/simplify/rewrite.h"

namespace espq {

PassReport separate_parameters(Graph& graph) {
  PassReport report{"separate_parameters"};
  for (Variable* variable : graph.variables()) {
    if (!variable->is_parameter() || variable->uses().size() < 2) continue;
    const std::vector<Use> uses = variable->uses();
    for (size_t i = 1; i < uses.size(); ++i) {
      Variable& copy = graph.add_parameter(free_variable_name(graph, variable->name()), variable->value());
      graph.set_input(*uses[i].operation, uses[i].slot, &copy);
    }
    report.count("parameter copied for another reader", static_cast<int64_t>(uses.size()) - 1);
  }
  return report;
}

}  // namespace espq
