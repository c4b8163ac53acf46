#include <algorithm>

#include "core/ops/operator.h"
#include "passes/lowering/steps.h"

namespace espq::lowering {
namespace {

/// The Relu that is the only reader of the operation's output; nullptr when there is none that can go into it.
Operation* only_relu(Graph& graph, const Operation& operation, const LowerOptions& options) {
  const auto readers = graph.downstream(operation);
  if (readers.size() != 1 || readers[0]->type() != "Relu") return nullptr;
  if (!readers[0]->quantized() || readers[0]->width() != operation.width()) return nullptr;
  if (graph.is_output(operation.output()) && !options.defects.fuse_over_graph_outputs) return nullptr;
  return readers[0];
}

}  // namespace

void fuse_relu(Graph& graph, const LowerOptions& options) {
  std::vector<Operation*> computing = graph.topological_order();
  std::erase_if(computing, [](const Operation* operation) {
    return !operation->quantized() || !definition_of(*operation).chip.fused_relu;
  });
  for (Operation* operation : computing) {
    operation->set_attribute("activation", std::string("Linear"));
    Operation* relu = only_relu(graph, *operation, options);
    if (!relu) continue;
    Variable* before = operation->output();
    Variable* after = relu->output();
    const SlotQuant format = relu->output_quant().at(0);
    graph.remove(*relu);
    graph.set_output(*operation, 0, after);
    std::vector<Variable*> outputs = graph.outputs();
    if (std::erase(outputs, before) > 0) graph.set_outputs(std::move(outputs));
    graph.remove(*before);
    operation->edit_output_quant(0) = format;
    operation->set_attribute("activation", std::string("Relu"));
  }
}

}  // namespace espq::lowering
