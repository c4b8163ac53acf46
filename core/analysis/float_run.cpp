#include "core/analysis/float_run.h"

namespace espq {

Executor float_executor(const Graph& quantized) {
  Executor executor(quantized, Precision::Simulated);
  executor.set_dequantized([](const Operation&) { return true; });
  return executor;
}

size_t WantedVariables::place_of(const Variable& variable) {
  const auto [found, is_new] = places_.emplace(&variable, list_.size());
  if (is_new) list_.push_back(&variable);
  return found->second;
}

double batch_size(const Tensors& inputs) {
  return inputs.empty() || inputs[0].dim() == 0 ? 1.0 : static_cast<double>(inputs[0].size(0));
}

}  // namespace espq
