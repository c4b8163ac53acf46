#include "passes/simplify/fuse_log_softmax.h"

#include "core/graph/match.h"
#include "passes/simplify/rewrite.h"

namespace espq {

PassReport fuse_log_softmax(Graph& graph) {
  PassReport report{"fuse_log_softmax"};
  for (Operation* operation : graph.operations()) {
    if (operation->type() != "Log" || is_dead(graph, *operation)) continue;
    Operation* softmax = private_producer_of(graph, *operation, 0, "Softmax");
    if (!softmax) continue;
    become(graph, *operation, "LogSoftmax", {softmax->input(0)}, softmax->attributes());
    report.count("Softmax and Log became LogSoftmax", operation->name());
  }
  return report;
}

}  // namespace espq
