#include "passes/simplify/affine.h"

#include <cmath>

#include "core/graph/match.h"

namespace espq {
namespace {

/// A scalar operand must not give the result more dimensions than the value has.
std::optional<double> harmless_scalar(Operation& operation, size_t slot) {
  const auto scalar = scalar_constant(operation.input(slot));
  const int64_t dimensions = scalar ? operation.input(slot)->value().dim() : 0;
  if (!scalar || dimensions == 0) return scalar;
  const auto rank = rank_of(operation.input(1 - slot));
  return rank && dimensions <= *rank ? scalar : std::nullopt;
}

/// One step up: value = scale * operand + offset.
std::optional<AffineValue> step(Operation& operation) {
  const auto slot = constant_operand(operation);
  if (!slot) return std::nullopt;
  const auto scalar = harmless_scalar(operation, *slot);
  if (!scalar) return std::nullopt;
  Variable* operand = operation.input(1 - *slot);
  if (!at::isFloatingType(operation.input(*slot)->value().scalar_type())) return std::nullopt;
  if (operation.type() == "Add") return AffineValue{operand, 1, *scalar};
  if (operation.type() == "Sub" && *slot == 1) return AffineValue{operand, 1, -*scalar};
  if (*scalar <= 0) return std::nullopt;  // a falling line is no part of any spelling
  if (operation.type() == "Mul") return AffineValue{operand, *scalar, 0};
  if (operation.type() == "Div" && *slot == 1) return AffineValue{operand, 1 / *scalar, 0};
  return std::nullopt;
}

}  // namespace

AffineValue affine_value(const Graph& graph, Variable& value, Operation& reader) {
  const bool only_reader = value.producer() && sole_consumer(graph, value) == &reader;
  return only_reader ? affine_result(graph, *value.producer()) : AffineValue{&value, 1, 0};
}

AffineValue affine_result(const Graph& graph, Operation& last) {
  AffineValue result{last.output(), 1, 0};
  for (Operation* producer = &last; producer;) {
    const auto above = step(*producer);
    if (!above) break;
    // scale * (a x + b) + offset
    result = {above->root, result.scale * above->scale, result.scale * above->offset + result.offset};
    producer = sole_consumer(graph, *result.root) ? result.root->producer() : nullptr;
  }
  return result;
}

std::optional<ScaledProduct> scaled_product(const Graph& graph, Operation& last) {
  const AffineValue outer = affine_result(graph, last);
  Operation* product = outer.root->producer();
  if (!product || product->type() != "Mul" || product->inputs().size() != 2 || outer.offset != 0) return std::nullopt;
  if (product != &last && !sole_consumer(graph, *outer.root)) return std::nullopt;
  if (product->input(0)->is_parameter() || product->input(1)->is_parameter()) return std::nullopt;
  return ScaledProduct{product, outer.scale};
}

bool close_to(double value, double expected) {
  return std::abs(value - expected) <= 1e-4 * std::max(std::abs(expected), 1e-3);
}

}  // namespace espq
