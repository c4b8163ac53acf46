#include "core/exec/chip_grid.h"

#include "core/ops/operator.h"

namespace espq {
namespace {

int storage_bits(at::ScalarType dtype) {
  return dtype == at::kChar ? 8 : dtype == at::kShort ? 16 : dtype == at::kInt ? 32 : dtype == at::kLong ? 64 : 0;
}

}  // namespace

Grid variable_grid(const Variable* variable, bool bias) {
  if (!variable || !variable->storage() || variable->storage()->exponents.empty()) return {};
  const int bits = storage_bits(variable->storage()->dtype);
  if (bits > 16 && !bias) return {};  // plain integers (axes, indices), not a grid
  return {bits, variable->storage()->exponents};
}

Grid input_grid(const Operation& operation, size_t slot) {
  const OperatorDefinition& definition = definition_of(operation);
  if (definition.input_spec(slot).role == OperandRole::Index) return {};
  return variable_grid(operation.input(slot), definition.input_spec(slot).role == OperandRole::Bias);
}

Grid output_grid(const Operation& operation, size_t slot) { return variable_grid(operation.output(slot)); }

}  // namespace espq
