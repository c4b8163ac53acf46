#include "tests/operator_cases/network.h"

#include "tests/support/graph_builder.h"

namespace espq::test {

std::string operand_name(size_t slot) { return "operand" + std::to_string(slot); }

Graph network_of(const OperatorCase& value, const Tensors& operands) {
  GraphBuilder net;
  std::vector<Variable*> inputs;
  for (size_t slot = 0; slot < operands.size(); ++slot) {
    if (!operands[slot].defined())
      inputs.push_back(nullptr);
    else if (value.operands[slot].constant)
      inputs.push_back(net.constant(operand_name(slot), operands[slot]));
    else
      inputs.push_back(net.input(operand_name(slot), operands[slot].sizes().vec(), operands[slot].scalar_type()));
  }
  net.outputs(net.op_with_results(value.results, value.type, "node", inputs, value.attributes));
  return std::move(net.graph);
}

Dataset data_of(const OperatorCase& value, const Tensors& operands) {
  Dataset::Batch batch;
  for (size_t slot = 0; slot < operands.size(); ++slot)
    if (operands[slot].defined() && !value.operands[slot].constant) batch[operand_name(slot)] = operands[slot];
  return Dataset({batch});
}

Tensors inputs_of(const OperatorCase& value, const Tensors& operands) {
  Tensors inputs;
  for (size_t slot = 0; slot < operands.size(); ++slot)
    if (operands[slot].defined() && !value.operands[slot].constant) inputs.push_back(operands[slot]);
  return inputs;
}

}  // namespace espq::test
