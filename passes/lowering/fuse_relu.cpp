#include <algorithm>

#include "core/graph/match.h"
#include "core/ops/operator.h"
#include "passes/lowering/steps.h"

namespace espq::lowering {
namespace {

/// The Relu that is the only reader of the operation's output; nullptr when there is none that can go into it.
Operation* only_relu(const Graph& graph, Operation& operation, const Quirks& quirks) {
  Operation* reader = sole_reader(operation);
  if (!reader || reader->type() != "Relu" || !reader->quantized() || reader->width() != operation.width())
    return nullptr;
  if (graph.is_output(operation.output()) && !quirks.fuse_over_graph_outputs) return nullptr;
  return reader;
}

/// Quirks::fuse_over_graph_outputs: what the operation computed before its Relu is no output any more.
void drop_output(Graph& graph, Variable* variable) {
  std::vector<Variable*> outputs = graph.outputs();
  std::erase(outputs, variable);
  graph.set_outputs(std::move(outputs));
}

}  // namespace

PassReport fuse_relu(Graph& graph, const Quirks& quirks) {
  PassReport report{"fuse_relu"};
  std::vector<Operation*> computing = graph.topological_order();
  std::erase_if(computing, [](const Operation* operation) {
    return !operation->quantized() || !definition_of(*operation).chip.fused_relu;
  });
  for (Operation* operation : computing) {
    operation->edit_chip().fused_relu = false;
    Operation* relu = only_relu(graph, *operation, quirks);
    if (!relu) continue;
    Variable* before = operation->output();
    Variable* after = relu->output();
    report.count("Relu fused", operation->name());
    const SlotQuant format = relu->output_quant().at(0);
    graph.remove(*relu);
    graph.set_output(*operation, 0, after);
    if (quirks.fuse_over_graph_outputs) drop_output(graph, before);
    graph.remove(*before);
    operation->edit_output_quant(0) = format;
    operation->edit_chip().fused_relu = true;
  }
  return report;
}

}  // namespace espq::lowering
