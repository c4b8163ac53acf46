#include "passes/pipeline/convert.h"

#include "core/exec/executor.h"
#include "parity/format.h"
#include "passes/legalize/bound_masks.h"
#include "passes/legalize/decompose_group_normalization.h"
#include "passes/legalize/rewrite_choices.h"
#include "passes/quantize/calibrate.h"
#include "passes/quantize/create_slots.h"
#include "passes/quantize/quantize_parameters.h"
#include "passes/quantize/settle.h"
#include "passes/quantize/tie_fused.h"
#include "passes/run.h"
#include "passes/simplify/remove_dead_code.h"
#include "passes/simplify/separate_parameters.h"

namespace espq {
namespace {

PassReport infer_all_shapes(Graph& graph) {
  PassReport report{"infer_shapes"};
  infer_shapes(graph, zero_inputs(graph));
  report.note("variable", static_cast<int64_t>(graph.variables().size()));
  return report;
}

/// What follows from exponents and weights, whenever those have moved.
void bring_to_rest(PassSequence& run, const Dataset& data, const Recipe& recipe) {
  const auto settle_exponents = [&](Graph& graph) { return settle(graph, recipe.quirks); };
  run(settle_exponents);
  // Looks at what the chip's sums will be, so every exponent has to stand. Weights that it coarsens move their biases.
  if (recipe.accumulators && run([&](Graph& graph) { return fit_accumulators(graph, data, *recipe.accumulators); }))
    run(settle_exponents);
}

/// Passes that train towards the answers of the network as it is now.
void train(PassSequence& run, const Graph& teacher, const Dataset& data, const Recipe& recipe) {
  const auto thresholds = [&](Graph& graph) {
    return train_thresholds(graph, teacher, data, *recipe.train_thresholds, recipe.quirks);
  };
  const auto rounding = [&](Graph& graph) {
    return learn_rounding(graph, teacher, data, *recipe.learn_rounding, recipe.quirks);
  };
  if (recipe.train_thresholds && run(thresholds)) bring_to_rest(run, data, recipe);
  // For the exponents that the chip will have.
  if (recipe.learn_rounding && run(rounding)) bring_to_rest(run, data, recipe);
}

}  // namespace

Graph prepare(const Graph& network, const Recipe& recipe, Report* report) {
  Report unread;
  Graph prepared = network.clone();
  PassSequence run(prepared, report ? *report : unread);
  if (recipe.simplify)
    run([&](Graph& graph) { return simplify(graph, *recipe.simplify, recipe.quirks); });
  else
    run(infer_all_shapes);  // which the simplifier does first
  if (recipe.quirks.format_like_incumbent) run(format_like_incumbent);
  // Behind the rewrites, which know how to fold into a ConvTranspose but not into what it becomes.
  if (recipe.decompose_conv_transpose) run(decompose_conv_transpose);
  bring_to_chip_forms(prepared, recipe, report ? *report : unread);
  return prepared;
}

void bring_to_chip_forms(Graph& simplified, const Recipe& recipe, Report& report, Origins* origins) {
  if (!recipe.legalize) return;
  PassSequence run(simplified, report);
  // These take operators away that no chip has at any width.
  run([&](Graph& graph) { return decompose_group_normalization(graph, origins); });
  run([&](Graph& graph) { return rewrite_choices(graph, origins); });
  // What a chip runs depends on the width.
  run([&](Graph& graph) { return assign_widths(graph, recipe.widths, recipe.layers, recipe.quirks); });
  const Deployment deployment{find_target(recipe.target), recipe.lowering.runtime_level};
  run([&](Graph& graph) { return legalize(graph, deployment, *recipe.legalize, origins, recipe.widths.bits); });
  run(remove_dead_code);
  run(separate_parameters);
  // What had no axes has one now (reductions).
  infer_shapes(simplified, zero_inputs(simplified));
}

Conversion convert(const Graph& network, const Dataset& data, const Recipe& recipe) {
  const Target& target = find_target(recipe.target);
  const Quirks& quirks = recipe.quirks;
  const int bits = recipe.widths.bits;
  Conversion made{recipe, {}, {}, {}};
  made.quantized = prepare(network, recipe, &made.report);

  PassSequence run(made.quantized, made.report);
  ObserverTable observers;
  run([&](Graph& graph) { return assign_widths(graph, recipe.widths, recipe.layers, quirks); });
  run([&](Graph& graph) {
    return require_runs(graph, {target, recipe.lowering.runtime_level}, recipe.widths, quirks);
  });
  // No grid holds the infinity of a mask.
  if (recipe.legalize) run([&](Graph& graph) { return bound_masks(graph, data); });
  run([&](Graph& graph) {
    return create_slots(graph, target, bits, observers, recipe.calibration, recipe.layers, quirks);
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
  train(run, made.quantized.clone(), data, recipe);
  // Last, since passes know functions by their type and not as LUT.
  run([&](Graph& graph) {
    return retype_functions_without_kernel(graph, recipe.tables.value_or(TableOptions()), quirks);
  });
  if (recipe.tables) run([&](Graph& graph) { return retype_tables(graph, bits, *recipe.tables, quirks); });

  made.chip = lower(made.quantized, recipe.lowering, quirks, &made.report);
  return made;
}

Conversion finish(const Graph& quantized, const Dataset& data, const Recipe& recipe) {
  Conversion made{recipe, quantized.clone(), {}, {}};
  PassSequence run(made.quantized, made.report);
  bring_to_rest(run, data, recipe);
  made.chip = lower(made.quantized, recipe.lowering, recipe.quirks, &made.report);
  return made;
}

}  // namespace espq
