#pragma once
#include "core/ops/operator.h"

namespace espq {

/// Runs one operation without a graph around it: attributes by name, omitted operands undefined.
inline Tensors run_node(const std::string& type, const Tensors& inputs, AttributeMap attributes = {}, bool chip = false,
                        size_t outputs = 1) {
  Graph graph;
  std::vector<Variable*> results;
  for (size_t i = 0; i < outputs; ++i) results.push_back(&graph.add_variable());
  Operation& operation = graph.add_operation(type, "node", {}, results, std::move(attributes));
  normalize_attributes(operation);
  return definition_of(operation).forward({operation, chip}, inputs);
}

inline at::Tensor run_one(const std::string& type, const Tensors& inputs, AttributeMap attributes = {}) {
  return run_node(type, inputs, std::move(attributes)).at(0);
}

}  // namespace espq
