#include "core/graph/match.h"

#include <ATen/ATen.h>

#include <cmath>

namespace espq {

Operation* sole_consumer(const Graph& graph, Variable& value) {
  return value.uses().size() == 1 && !graph.is_output(&value) ? value.uses()[0].operation : nullptr;
}
const Operation* sole_consumer(const Graph& graph, const Variable& value) {
  return value.uses().size() == 1 && !graph.is_output(&value) ? value.uses()[0].operation : nullptr;
}

Operation* sole_reader(Operation& operation) {
  Operation* reader = nullptr;
  for (Variable* output : operation.outputs()) {
    if (!output || output->uses().empty()) continue;
    if (reader || output->uses().size() > 1) return nullptr;
    reader = output->uses()[0].operation;
  }
  return reader;
}

Operation* producer_of(Variable* value, std::string_view type) {
  return value && value->producer() && value->producer()->type() == type ? value->producer() : nullptr;
}
const Operation* producer_of(const Variable* value, std::string_view type) {
  return value && value->producer() && value->producer()->type() == type ? value->producer() : nullptr;
}

Operation* private_producer_of(const Graph& graph, Operation& operation, size_t slot, std::string_view type) {
  Operation* producer = producer_of(operation.input(slot), type);
  return producer && sole_consumer(graph, *operation.input(slot)) == &operation ? producer : nullptr;
}

std::optional<double> scalar_constant(const Variable* value) {
  if (!value || !value->is_parameter() || value->value().numel() != 1) return std::nullopt;
  return value->value().item().toDouble();
}

bool is_scalar(const Variable* value, double expected, double tolerance) {
  const auto found = scalar_constant(value);
  return found && std::abs(*found - expected) <= tolerance * std::abs(expected);
}

std::optional<std::vector<int64_t>> integer_constant(const Variable* value) {
  if (!value || !value->is_parameter() || !at::isIntegralType(value->value().scalar_type(), false)) return std::nullopt;
  const at::Tensor flat = value->value().to(at::kLong).contiguous();
  const int64_t* data = flat.const_data_ptr<int64_t>();
  return std::vector<int64_t>(data, data + flat.numel());
}

std::optional<size_t> constant_operand(const Operation& operation) {
  if (operation.inputs().size() != 2 || !operation.input(0) || !operation.input(1)) return std::nullopt;
  if (operation.input(0)->is_parameter() == operation.input(1)->is_parameter()) return std::nullopt;
  return operation.input(0)->is_parameter() ? 0 : 1;
}

std::optional<int64_t> rank_of(const Variable* value) {
  if (!value || !value->shape()) return std::nullopt;
  return static_cast<int64_t>(value->shape()->size());
}

}  // namespace espq
