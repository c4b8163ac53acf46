#include "core/graph/match.h"
#include "core/ops/operator.h"
#include "passes/lowering/steps.h"

namespace espq::lowering {
namespace {

/// The upper bound of the Clip cuts nothing that its grid does not, and the lower one is that of a Relu.
bool is_relu_on_its_grid(const Graph& graph, const Operation& clip) {
  if (clip.type() != "Clip" || !clip.quantized()) return false;
  const Grid grid = slot_grid(graph, clip.output_quant()[0]);
  const auto low = scalar_constant(clip.input(1));
  if (!grid.quantized() || grid.exponents.size() != 1 || !low || *low != 0) return false;
  if (!clip.input(2)) return true;
  const auto high = scalar_constant(clip.input(2));
  return high && *high >= std::ldexp(quant_max(grid.bits), grid.exponent());
}

}  // namespace

PassReport saturating_clips(Graph& graph) {
  PassReport report{"saturating_clips"};
  for (Operation* operation : graph.topological_order()) {
    if (!is_relu_on_its_grid(graph, *operation)) continue;
    graph.truncate_inputs(*operation, 1);
    operation->retype("Relu");
    report.count("Clip became Relu", operation->name());
  }
  return report;
}

}  // namespace espq::lowering
