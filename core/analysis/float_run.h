#pragma once
#include <unordered_map>
#include <vector>

#include "core/exec/executor.h"

namespace espq {

/// Runs a quantized graph without quantization, with the kernels that it has with it: the reference of the analyses.
Executor float_executor(const Graph& quantized);

/// Variables whose values several want of one run, each once.
class WantedVariables {
 public:
  /// The variable's place in the list.
  size_t place_of(const Variable& variable);
  const std::vector<const Variable*>& list() const { return list_; }

 private:
  std::vector<const Variable*> list_;
  std::unordered_map<const Variable*, size_t> places_;
};

/// Number of samples of a batch.
double batch_size(const Tensors& inputs);

}  // namespace espq
