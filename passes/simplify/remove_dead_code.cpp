#include "passes/simplify/remove_dead_code.h"

#include <unordered_set>

namespace espq {

PassReport remove_dead_code(Graph& graph) {
  PassReport report{"remove_dead_code"};
  std::unordered_set<const Operation*> alive;
  std::vector<const Variable*> open(graph.outputs.begin(), graph.outputs.end());
  while (!open.empty()) {
    const Operation* producer = open.back() ? open.back()->producer() : nullptr;
    open.pop_back();
    if (!producer || !alive.insert(producer).second) continue;
    open.insert(open.end(), producer->inputs().begin(), producer->inputs().end());
  }
  for (Operation* operation : graph.operations()) {
    if (alive.count(operation)) continue;
    report.count("unused " + operation->type + " removed");
    graph.remove(*operation);
  }
  for (Variable* variable : graph.variables())
    if (!variable->producer() && variable->uses().empty() && !graph.is_input(variable) && !graph.is_output(variable))
      graph.remove(*variable);
  return report;
}

}  // namespace espq
