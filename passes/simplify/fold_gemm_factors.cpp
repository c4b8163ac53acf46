#include "passes/simplify/fold_gemm_factors.h"

#include "core/graph/match.h"
#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

/// Multiplies a constant operand by the attribute. False when the attribute is 1 or the operand is no constant.
bool fold(Graph& graph, Operation& gemm, const char* attribute, size_t slot, const char* suffix) {
  const float factor = gemm.float_attribute(attribute, 1.0F);
  const Variable* operand = gemm.input(slot);
  if (factor == 1.0F || (operand && !operand->is_parameter())) return false;
  if (operand) set_constant(graph, gemm, slot, operand->value() * factor, gemm.name() + suffix);
  gemm.set_attribute(attribute, 1.0F);
  return true;
}

}  // namespace

PassReport fold_gemm_factors(Graph& graph) {
  PassReport report{"fold_gemm_factors"};
  for (Operation* operation : graph.operations()) {
    if (operation->type() != "Gemm") continue;
    if (operation->input(2) && operation->float_attribute("beta", 1.0F) == 0.0F) {
      graph.truncate_inputs(*operation, 2);
      report.count("bias of a Gemm with beta 0 removed", operation->name());
    }
    if (fold(graph, *operation, "alpha", 1, "_weight"))
      report.count("alpha of a Gemm folded into its weight", operation->name());
    if (fold(graph, *operation, "beta", 2, "_bias"))
      report.count("beta of a Gemm folded into its bias", operation->name());
  }
  return report;
}

}  // namespace espq
