#include "core/graph/match.h"
#include "core/ops/operator.h"
#include "passes/lowering/steps.h"

namespace espq::lowering {
namespace {

/// What a Clip on its own grid is.
enum class OnGrid { Clip, Relu, Nothing };

OnGrid on_its_grid(const Graph& graph, const Operation& clip) {
  if (clip.type() != "Clip" || !clip.quantized()) return OnGrid::Clip;
  const Grid grid = slot_grid(graph, clip.output_quant()[0]);
  const auto low = scalar_constant(clip.input(1));
  if (!grid.quantized() || grid.exponents.size() != 1 || !low) return OnGrid::Clip;
  const auto high = scalar_constant(clip.input(2));
  if (clip.input(2) && !(high && *high >= std::ldexp(quant_max(grid.bits), grid.exponent()))) return OnGrid::Clip;
  if (*low == 0) return OnGrid::Relu;
  return *low <= std::ldexp(quant_min(grid.bits), grid.exponent()) ? OnGrid::Nothing : OnGrid::Clip;
}

/// The operation in front rounds to the grid of the Clip, which goes. False where its result is read elsewhere, too.
bool leave_to_producer(Graph& graph, Operation& clip) {
  Variable *before = clip.input(0), *after = clip.output();
  Operation* front = before->producer();
  if (!front || !front->quantized() || sole_consumer(graph, *before) != &clip || front->width() != clip.width() ||
      graph.scales().root(front->output_quant()[0].scale) != graph.scales().root(clip.output_quant()[0].scale))
    return false;
  const SlotQuant format = clip.output_quant()[0];
  graph.remove(clip);
  graph.set_output(*front, 0, after);
  graph.remove(*before);
  front->edit_output_quant(0) = format;
  return true;
}

}  // namespace

PassReport saturating_clips(Graph& graph) {
  PassReport report{"saturating_clips"};
  for (Operation* operation : graph.topological_order()) {
    const std::string name = operation->name();
    const OnGrid is = on_its_grid(graph, *operation);
    if (is == OnGrid::Relu) {
      graph.truncate_inputs(*operation, 1);
      operation->retype("Relu");
      report.count("Clip became Relu", name);
    } else if (is == OnGrid::Nothing && leave_to_producer(graph, *operation)) {
      report.count("Clip left to saturation", name);
    }
  }
  return report;
}

}  // namespace espq::lowering
