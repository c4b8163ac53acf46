#include "passes/simplify/fold_transpose_into_gemm.h"

#include "core/graph/match.h"

namespace espq {

PassReport fold_transpose_into_gemm(Graph& graph) {
  PassReport report{"fold_transpose_into_gemm"};
  for (Operation* operation : graph.operations()) {
    if (operation->type() != "Gemm") continue;
    for (size_t slot = 0; slot < 2; ++slot) {
      Operation* transpose = producer_of(operation->input(slot), "Transpose");
      if (!transpose) continue;
      // Gemm takes matrices only, so the Transpose either swaps their two axes or does nothing.
      if (transpose->has("perm") && transpose->ints_attribute("perm") != Shape{1, 0}) continue;
      const char* attribute = slot == 0 ? "transA" : "transB";
      operation->set_attribute(attribute, int64_t{operation->int_attribute(attribute, 0) == 0});
      graph.set_input(*operation, slot, transpose->input(0));
      report.count(std::string("Transpose folded into ") + attribute, operation->name());
    }
  }
  return report;
}

}  // namespace espq
