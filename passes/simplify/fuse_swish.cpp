#include "passes/simplify/fuse_swish.h"

#include "core/graph/match.h"
#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

void rename_like_incumbent(Graph& graph, Operation& swish, const Operation& sigmoid) {
  const Operation* producer = swish.input(0)->producer();
  std::string name = (producer ? producer->name() : sigmoid.name()) + "/Swish";
  if (graph.find_operation(name)) name = sigmoid.name() + "/Swish";
  graph.rename(swish, free_operation_name(graph, name));
  graph.move_to_end(swish);
}

}  // namespace

PassReport fuse_swish(Graph& graph, const FuseSwishOptions& options) {
  PassReport report{"fuse_swish"};
  for (Operation* operation : graph.operations()) {
    if (operation->type() != "Mul" || operation->inputs().size() != 2 || is_dead(graph, *operation)) continue;
    for (size_t slot = 0; slot < 2; ++slot) {
      Operation* sigmoid = private_producer_of(graph, *operation, slot, "Sigmoid");
      if (!sigmoid || sigmoid->input(0) != operation->input(1 - slot)) continue;
      become(graph, *operation, "Swish", {sigmoid->input(0)});
      if (options.like_incumbent) {
        rename_like_incumbent(graph, *operation, *sigmoid);
      }
      report.count("Sigmoid and Mul became Swish");
      break;
    }
  }
  return report;
}

}  // namespace espq
