#include <algorithm>

#include "core/ops/operator.h"
#include "core/support/error.h"
#include "passes/lowering/slots.h"
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
  if (!operation.quantized() || !definition_of(operation).chip.fused_relu || operation.inputs().size() < 2)
    return false;
  const Variable* weights = operation.input(1);
  return operation.input(0)->storage() && weights && weights->storage() && operation.output()->storage();
}

void check_shift(const Graph& graph, const Operation& operation, LowerReport& report) {
  if (!multiplies_integers(operation) || graph.target()->simd == SimdFamily::None) return;
  const int shift = smallest_shift(operation);
  if (shift >= 0) return;
  report.warnings.push_back(fmt::format(
      "{} '{}': its output grid 2^{} is {} bits finer than its products; the chip would have to shift left, "
      "which its kernels do not do. The output is (nearly) constant: calibrate with data that excites it or "
      "leave the layer out",
      operation.type(), operation.name(), operation.output()->storage()->exponents[0], -shift));
}

void check_support(const Operation& operation, const LowerOptions& options, LowerReport& report) {
  if (options.runtime_level != RuntimeLevel::V3_3_9) return;
  const std::string& kernels = operation.string_attribute("quant_type");
  const auto width = kernels == "S8"    ? OperationWidth::Int8
                     : kernels == "S16" ? OperationWidth::Int16
                                        : OperationWidth::Float;
  if (definition_of(operation).chip.has_kernel(width)) return;
  report.warnings.push_back(
      fmt::format("{} '{}': chip library 3.3.9 has no {} kernel for it, the file will only load where the application "
                  "registers one",
                  operation.type(), operation.name(), kernels));
}

}  // namespace

void check_consistency(const Graph& graph, const LowerOptions& options, LowerReport& report) {
  for (const Operation* operation : graph.topological_order()) {
    check_support(*operation, options, report);
    check_shift(graph, *operation, report);
  }
}

}  // namespace espq::lowering
