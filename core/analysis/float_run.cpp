#include "core/analysis/float_run.h"

namespace espq {

Executor float_executor(const Graph& quantized) {
  Executor executor(quantized, Precision::Simulated);
  executor.set_dequantized([](const Operation&) { return true; });
  return executor;
}

NamedTensors named_inputs(const Graph& graph, const Tensors& inputs) {
  NamedTensors named;
  for (size_t i = 0; i < inputs.size(); ++i) named.emplace(graph.inputs()[i]->name(), inputs[i]);
  return named;
}

double batch_size(const Tensors& inputs) {
  return inputs.empty() || inputs[0].dim() == 0 ? 1.0 : static_cast<double>(inputs[0].size(0));
}

}  // namespace espq
