#include "passes/pipeline/quantize_network.h"

#include <algorithm>
#include <optional>

#include "core/support/error.h"
#include "passes/legalize/bound_masks.h"
#include "passes/legalize/scale_small_norms.h"
#include "passes/quantize/calibrate.h"
#include "passes/quantize/create_slots.h"
#include "passes/quantize/fix_exponents.h"
#include "passes/quantize/load_quantization.h"
#include "passes/quantize/quantize_parameters.h"
#include "passes/quantize/settle.h"
#include "passes/quantize/tie_fused.h"

namespace espq {

namespace {

/// Where a file says what calibration would: from its grids to a graph at rest.
void take_from_file(const RunPass& run, const Dataset& data, const Recipe& recipe, const ObserverTable& observers,
                    const StoredQuantization& stored) {
  run([&](Graph& graph) { return load_quantization(graph, stored); });
  run([&](Graph& graph) { return quantize_parameters(graph, observers, recipe.calibration, recipe.quirks); });
  run([&](Graph& graph) {
    const std::vector<std::string> waiting = waiting_tensors(graph);
    if (waiting.empty()) return PassReport{"calibrate"};
    user_check(data.size() > 0, "{}: says nothing of the tensors '{}'; give calibration data for them", stored.file,
               fmt::join(waiting, "', '"));
    return calibrate(graph, data, observers, recipe.calibration, recipe.quirks);
  });
  // No alignment and no accumulators: they have been looked at when the file was made.
  run([&](Graph& graph) { return settle(graph, recipe.quirks); });
  run([&](Graph& graph) {
    PassReport report{"compare_with_file"};
    for (const std::string& moved : moved_exponents(graph, stored))
      report.warnings.push_back(fmt::format("{}: {}: the chip cannot run the file's exponent", stored.file, moved));
    return report;
  });
}

/// Exponents that the recipe fixes, and what follows from them.
void fix(const RunPass& run, const Recipe& recipe) {
  const auto fixes = [](const auto& layer) { return layer.second.fixes_exponent(); };
  if (std::none_of(recipe.layers.begin(), recipe.layers.end(), fixes)) return;
  const auto pass = [&](Graph& graph) { return fix_exponents(graph, recipe.layers, recipe.quirks); };
  if (!run(pass)) return;
  run([&](Graph& graph) { return settle(graph, recipe.quirks); });
  run([&](Graph& graph) {
    PassReport moved = fix_exponents(graph, recipe.layers, recipe.quirks);
    user_check(!moved.changed(), "layers: the exponent of '{}' is finer than its products: the chip cannot shift left",
               moved.changed() ? moved.changes.front().where : "");
    return moved;
  });
}

}  // namespace

void quantize_network(const RunPass& run, const Dataset& data, const Recipe& recipe) {
  const Target& target = find_target(recipe.target);
  const Quirks& quirks = recipe.quirks;
  ObserverTable observers;
  std::optional<StoredQuantization> stored;
  if (!recipe.load_quantization.empty()) stored = read_quantization(recipe.load_quantization);
  run([&](Graph& graph) { return assign_widths(graph, recipe.widths, recipe.layers, quirks); });
  if (stored) run([&](Graph& graph) { return load_widths(graph, *stored); });
  run([&](Graph& graph) {
    return require_runs(graph, {target, recipe.lowering.runtime_level}, recipe.widths, quirks);
  });
  // No grid holds the infinity of a mask.
  if (recipe.legalize) run([&](Graph& graph) { return bound_masks(graph, data); });
  if (recipe.legalize) run([&](Graph& graph) { return scale_small_norms(graph, data); });
  run([&](Graph& graph) {
    return create_slots(graph, target, recipe.widths.bits, observers, recipe.calibration, recipe.layers, quirks);
  });
  // Before calibration: slots of one scale are observed once, and a Conv in front of a Relu through the Relu.
  run([&](Graph& graph) { return tie_fused(graph, quirks); });
  run([&](Graph& graph) { return tie_consumers(graph, quirks); });
  if (stored) {
    take_from_file(run, data, recipe, observers, *stored);
    return fix(run, recipe);
  }
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
  fix(run, recipe);
}

}  // namespace espq
