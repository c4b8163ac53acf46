#pragma once
#include "core/ops/operator.h"

namespace espq {

/// Runs one operation without a graph around it: attributes by name, omitted operands undefined.
inline Tensors run_node(const std::string& type, const Tensors& inputs, AttributeMap attributes = {}, bool chip = false,
                        size_t outputs = 1, const ChipFacts& facts = {}) {
  Graph graph;
  std::vector<Variable*> results;
  for (size_t i = 0; i < outputs; ++i) results.push_back(&graph.add_variable());
  Operation& operation = graph.add_operation(type, "node", {}, results, std::move(attributes));
  operation.edit_chip() = facts;
  normalize_attributes(operation);
  return definition_of(operation).forward({.operation = operation, .chip = chip}, inputs);
}

inline at::Tensor run_one(const std::string& type, const Tensors& inputs, AttributeMap attributes = {}) {
  return run_node(type, inputs, std::move(attributes)).at(0);
}

/// One operation in Board precision, run as soon as it is made.
struct BoardNode {
  std::string type;
  std::string target = "esp32p4";
  std::vector<Grid> inputs, outputs;
  AttributeMap attributes = {};
  std::vector<bool> parameters = {};  ///< slots whose tensor is a constant of the graph
  at::Tensor table = {};
  ChipFacts chip = {};

  at::Tensor operator()(const Tensors& tensors) const {
    Graph graph;
    std::vector<Variable*> operands;
    Tensors constants(tensors.size());
    for (size_t slot = 0; slot < tensors.size(); ++slot) {
      operands.push_back(tensors[slot].defined() ? &graph.add_variable() : nullptr);
      if (slot < parameters.size() && parameters[slot]) constants[slot] = tensors[slot];
    }
    Operation& operation = graph.add_operation(type, "node", operands, {&graph.add_variable()}, attributes);
    operation.edit_chip() = chip;
    normalize_attributes(operation);
    const BoardContext context{operation, find_target(target), inputs, outputs, constants, table};
    return definition_of(operation).chip.board(context)(tensors).at(0);
  }
};

/// Codes as kernels hold them.
inline at::Tensor codes(const std::vector<float>& values) { return at::tensor(values); }

}  // namespace espq
