#include "passes/lowering/steps.h"

namespace espq::lowering {

PassReport split_shared_parameters(Graph& graph) {
  PassReport report{"split_shared_parameters"};
  for (Variable* variable : graph.variables()) {
    if (!variable->is_parameter()) continue;
    const std::vector<Use> uses = variable->uses();
    for (size_t i = 1; i < uses.size(); ++i) {
      Variable& copy = graph.add_parameter({}, variable->value());
      graph.set_input(*uses[i].operation, uses[i].slot, &copy);
      report.count("parameter copied", variable->name());
    }
  }
  return report;
}

}  // namespace espq::lowering
