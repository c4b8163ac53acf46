#include "passes/simplify/fuse_swish.h"

#include "core/graph/match.h"
#include "passes/simplify/rewrite.h"

namespace espq {

Operation* swish_sigmoid(const Graph& graph, Operation& multiplication) {
  if (multiplication.type() != "Mul" || multiplication.inputs().size() != 2) return nullptr;
  for (size_t slot = 0; slot < 2; ++slot) {
    Operation* sigmoid = private_producer_of(graph, multiplication, slot, "Sigmoid");
    if (sigmoid && sigmoid->input(0) == multiplication.input(1 - slot)) return sigmoid;
  }
  return nullptr;
}

PassReport fuse_swish(Graph& graph) {
  PassReport report{"fuse_swish"};
  for (Operation* operation : graph.operations()) {
    Operation* sigmoid = is_dead(graph, *operation) ? nullptr : swish_sigmoid(graph, *operation);
    if (!sigmoid) continue;
    become(graph, *operation, "Swish", {sigmoid->input(0)});
    report.count("Sigmoid and Mul became Swish", operation->name());
  }
  return report;
}

}  // namespace espq
