#include <algorithm>

#include "core/ops/operator.h"
#include "core/support/error.h"
#include "passes/lowering/formats.h"
#include "passes/lowering/steps.h"

namespace espq::lowering {
namespace {

/// Smallest right shift that brings products to the output's grid; the kernels cannot shift left.
int smallest_shift(const Operation& operation) {
  const auto& input = operation.input(0)->storage()->exponents;
  const auto& weights = operation.input(1)->storage()->exponents;
  const int output = operation.output()->storage()->exponents.at(0);
  return output - input.at(0) - *std::max_element(weights.begin(), weights.end());
}

bool multiplies_integers(const Operation& operation) {
  if (!operation.quantized() || !definition_of(operation).linear) return false;
  const Variable* weights = operation.input(1);
  return operation.input(0)->storage() && weights && weights->storage() && operation.output()->storage();
}

void check_shift(const Graph& graph, const Operation& operation, PassReport& report) {
  if (!multiplies_integers(operation) || !graph.target()->vector_unit) return;
  const int shift = smallest_shift(operation);
  if (shift >= 0) return;
  report.warnings.push_back(fmt::format(
      "{} '{}': its output grid 2^{} is {} bits finer than its products; the chip would have to shift left, "
      "which its kernels do not do. The output is (nearly) constant: calibrate with data that excites it or "
      "leave the layer out",
      operation.type(), operation.name(), operation.output()->storage()->exponents[0], -shift));
}

void check_support(const Graph& graph, const Operation& operation, const LowerOptions& options, PassReport& report) {
  const auto refusal = refuses(operation, {*graph.target(), options.runtime_level}, operation.chip().kernels.value());
  if (!refusal) return;
  report.warnings.push_back(
      fmt::format("{} '{}': {}; {}", operation.type(), operation.name(), refusal->why, refusal->remedy));
}

}  // namespace

PassReport check_consistency(const Graph& graph, const LowerOptions& options) {
  PassReport report{"check_consistency"};
  for (const Operation* operation : graph.topological_order()) {
    check_support(graph, *operation, options, report);
    check_shift(graph, *operation, report);
  }
  return report;
}

}  // namespace espq::lowering
