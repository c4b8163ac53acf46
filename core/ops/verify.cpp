#include <algorithm>

#include "core/ops/operator.h"
#include "core/support/error.h"

namespace espq {
namespace {

void check(bool condition, const Operation& operation, const std::string& what) {
  if (!condition) internal_check(false, operation.type() + " '" + operation.name() + "': " + what);
}

void verify_inputs(const Operation& operation, const OperatorDefinition& definition) {
  const auto& inputs = operation.inputs();
  const bool variadic = !definition.inputs.empty() && definition.inputs.back().variadic;
  check(variadic || inputs.size() <= definition.inputs.size(), operation, "too many operands");
  for (size_t slot = 0; slot < std::max(inputs.size(), definition.inputs.size()); ++slot) {
    const Variable* variable = operation.input(slot);
    const OperandSpec& spec = definition.input_spec(slot);
    check(variable || spec.optional, operation, "operand '" + std::string(spec.name) + "' is missing");
    if (!variable) continue;
    const ConstUse use{&operation, static_cast<int>(slot)};
    const auto uses = variable->uses();
    check(std::count(uses.begin(), uses.end(), use) == 1, operation,
          "the use list of '" + variable->name() + "' does not match");
  }
}

void verify_outputs(const Operation& operation, const OperatorDefinition& definition) {
  const bool variadic = !definition.outputs.empty() && definition.outputs.back().variadic;
  check(variadic || operation.outputs().size() <= definition.outputs.size(), operation, "too many outputs");
  for (size_t slot = 0; slot < operation.outputs().size(); ++slot) {
    const Variable* variable = operation.output(slot);
    if (!variable) continue;
    check(variable->producer() == &operation && variable->producer_slot() == static_cast<int>(slot), operation,
          "'" + variable->name() + "' names another producer");
    check(!variable->is_parameter(), operation, "'" + variable->name() + "' is a constant");
  }
}

void verify_quantization(const Operation& operation) {
  if (!operation.quantized()) return;
  check(operation.input_quant().size() == operation.inputs().size(), operation, "one slot per operand is needed");
  check(operation.output_quant().size() == operation.outputs().size(), operation, "one slot per output is needed");
}

}  // namespace

void verify(const Graph& graph) {
  for (const Operation* operation : graph.operations()) {
    const OperatorDefinition* definition = operators().find(operation->type());
    if (!definition)
      internal_check(false, "operation '" + operation->name() + "' has unknown type " + operation->type());
    verify_inputs(*operation, *definition);
    verify_outputs(*operation, *definition);
    verify_quantization(*operation);
    Operation copy = *operation;  // normalising a complete operation only checks
    try {
      normalize_attributes(copy);
    } catch (const UserError& error) {
      internal_check(false, error.what());
    }
  }
  for (const Variable* variable : graph.variables())
    for (const ConstUse& use : variable->uses())
      check(use.operation->input(use.slot) == variable, *use.operation,
            "does not read '" + variable->name() + "' although the use list says so");
  graph.topological_order();
}

}  // namespace espq
