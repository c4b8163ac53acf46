#include "passes/pipeline/quantize_network.h"

#include "passes/legalize/bound_masks.h"
#include "passes/quantize/calibrate.h"
#include "passes/quantize/create_slots.h"
#include "passes/quantize/quantize_parameters.h"
#include "passes/quantize/settle.h"
#include "passes/quantize/tie_fused.h"

namespace espq {

void quantize_network(const RunPass& run, const Dataset& data, const Recipe& recipe) {
  const Target& target = find_target(recipe.target);
  const Quirks& quirks = recipe.quirks;
  ObserverTable observers;
  run([&](Graph& graph) { return assign_widths(graph, recipe.widths, recipe.layers, quirks); });
  run([&](Graph& graph) {
    return require_runs(graph, {target, recipe.lowering.runtime_level}, recipe.widths, quirks);
  });
  // No grid holds the infinity of a mask.
  if (recipe.legalize) run([&](Graph& graph) { return bound_masks(graph, data); });
  run([&](Graph& graph) {
    return create_slots(graph, target, recipe.widths.bits, observers, recipe.calibration, recipe.layers, quirks);
  });
  // Before calibration: slots of one scale are observed once, and a Conv in front of a Relu through the Relu.
  run([&](Graph& graph) { return tie_fused(graph, quirks); });
  run([&](Graph& graph) { return tie_consumers(graph, quirks); });
  // Calibration runs the network with rounded weights.
  run([&](Graph& graph) { return quantize_parameters(graph, observers, recipe.calibration, quirks); });
  run([&](Graph& graph) { return calibrate(graph, data, observers, recipe.calibration, quirks); });
  // Needs the scales that it brings together.
  run([&](Graph& graph) { return align_scales(graph, data, recipe.alignment, quirks); });
  bring_to_rest(run, data, recipe);
}

void bring_to_rest(const RunPass& run, const Dataset& data, const Recipe& recipe) {
  const auto settle_exponents = [&](Graph& graph) { return settle(graph, recipe.quirks); };
  run(settle_exponents);
  // Looks at what the chip's sums will be, so every exponent has to stand. Weights that it coarsens move their biases.
  if (recipe.accumulators && run([&](Graph& graph) { return fit_accumulators(graph, data, *recipe.accumulators); }))
    run(settle_exponents);
}

}  // namespace espq
