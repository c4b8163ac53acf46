#include "export/conversion/test_values.h"

#include <ATen/ATen.h>

#include "core/exec/float_layout.h"
#include "core/support/error.h"

namespace espq {

namespace {

/// The inputs in the chip graph's order and layout.
TestValues ordered_inputs(const Graph& chip_graph, const NamedTensors& inputs) {
  for (const auto& [name, value] : inputs) {
    const Variable* variable = chip_graph.find_variable(name);
    user_check(variable && chip_graph.is_input(variable), "test input '{}': the model has no such input", name);
  }
  TestValues tests;
  for (const Variable* input : chip_graph.inputs()) {
    const auto found = inputs.find(input->name());
    user_check(found != inputs.end(), "test input '{}' is missing: give all inputs of the model or none",
               input->name());
    tests.inputs.emplace_back(input->name(), to_chip_layout(*input, found->second));
  }
  return tests;
}

}  // namespace

TestValues record_test_values(const Graph& chip_graph, const NamedTensors& inputs) {
  TestValues tests = ordered_inputs(chip_graph, inputs);
  Tensors ordered;
  for (const auto& [name, value] : tests.inputs) ordered.push_back(value);
  const Tensors outputs = Executor(chip_graph, Precision::Board).run(ordered);
  for (size_t i = 0; i < outputs.size(); ++i) tests.outputs.emplace_back(chip_graph.outputs()[i]->name(), outputs[i]);
  return tests;
}

TestValues simulate_test_values(const Graph& quantized, const Graph& chip_graph, const NamedTensors& inputs) {
  TestValues tests = ordered_inputs(chip_graph, inputs);
  const NamedTensors outputs = Executor(quantized, Precision::Simulated).run(inputs, names_of(chip_graph.outputs()));
  for (const Variable* output : chip_graph.outputs())
    tests.outputs.emplace_back(output->name(), to_chip_layout(*output, outputs.at(output->name())));
  return tests;
}

}  // namespace espq
