#pragma once
#include <vector>

#include "core/exec/executor.h"
#include "core/ops/operator.h"

namespace espq {

/// A float network as a program that calls LibTorch's operators one after the other, the way an eager model's forward()
/// does: no plan, no cache. What the precisions of the Executor are measured against.
class EagerNetwork {
 public:
  explicit EagerNetwork(const Graph& graph) {
    std::unordered_map<const Variable*, int> place;
    const auto place_of = [&](const Variable* variable) {
      if (!variable) return -1;
      const auto [found, is_new] = place.emplace(variable, static_cast<int>(constants_.size()));
      if (is_new) constants_.push_back(variable->value());
      return found->second;
    };
    for (const Variable* input : graph.inputs()) inputs_.push_back(place_of(input));
    for (const Operation* operation : graph.topological_order()) {
      Call call{operation, definition_of(*operation).forward, {}, {}};
      for (const Variable* input : operation->inputs()) call.inputs.push_back(place_of(input));
      for (const Variable* output : operation->outputs()) call.outputs.push_back(place_of(output));
      calls_.push_back(std::move(call));
    }
    for (const Variable* output : graph.outputs()) outputs_.push_back(place_of(output));
  }

  Tensors run(const Tensors& inputs) const {
    Tensors values = constants_;
    for (size_t i = 0; i < inputs_.size(); ++i) values[inputs_[i]] = inputs[i];
    for (const Call& call : calls_) {
      Tensors operands(call.inputs.size());
      for (size_t i = 0; i < operands.size(); ++i)
        if (call.inputs[i] >= 0) operands[i] = values[call.inputs[i]];
      Tensors results = call.forward({*call.operation}, operands);
      for (size_t i = 0; i < call.outputs.size(); ++i)
        if (call.outputs[i] >= 0) values[call.outputs[i]] = std::move(results[i]);
    }
    Tensors results;
    for (int output : outputs_) results.push_back(values[output]);
    return results;
  }

 private:
  struct Call {
    const Operation* operation;
    ForwardFunction forward;
    std::vector<int> inputs, outputs;
  };
  Tensors constants_;
  std::vector<int> inputs_, outputs_;
  std::vector<Call> calls_;
};

}  // namespace espq
