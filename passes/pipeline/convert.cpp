#include "passes/pipeline/convert.h"

#include "core/exec/executor.h"
#include "core/exec/side_by_side.h"
#include "parity/format.h"
#include "passes/legalize/cut_arg_max.h"
#include "passes/legalize/decompose_group_normalization.h"
#include "passes/legalize/fuse_scalar_functions.h"
#include "passes/legalize/require_exponents.h"
#include "passes/legalize/rewrite_choices.h"
#include "passes/pipeline/choices.h"
#include "passes/pipeline/quantize_network.h"
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

/// Passes that bring the network back to the answers of `teacher`: the network as it is now, in float.
void recover(const RunPass& run, Graph& teacher, const Dataset& data, const Recipe& recipe) {
  const auto biases = [&](Graph& graph) { return correct_biases(graph, teacher, data, *recipe.correct_biases); };
  const auto exponents = [&](Graph& graph) {
    return search_exponents(graph, teacher, data, *recipe.search_exponents, recipe.quirks);
  };
  const auto thresholds = [&](Graph& graph) {
    return train_thresholds(graph, teacher, data, *recipe.train_thresholds, recipe.quirks, recipe.learn_rounding);
  };
  const auto zero_points = [&](Graph& graph) {
    return virtual_zero_point(graph, teacher, data, *recipe.virtual_zero_point, recipe.quirks);
  };
  const auto rounding = [&](Graph& graph) {
    return learn_rounding(graph, teacher, data, *recipe.learn_rounding, recipe.quirks);
  };
  if (recipe.correct_biases && run(biases)) bring_to_rest(run, data, recipe);
  // Behind the first correction, which takes away most of what would hide the gain of an exponent.
  if (recipe.search_exponents && run(exponents)) {
    bring_to_rest(run, data, recipe);
    if (recipe.correct_biases && run(biases)) bring_to_rest(run, data, recipe);
  }
  // Learns the rounding of every block, too, where that is wanted; by itself where training was undone.
  const bool trained = recipe.train_thresholds && run(thresholds);
  if (trained) bring_to_rest(run, data, recipe);
  if (!trained && recipe.learn_rounding && run(rounding)) bring_to_rest(run, data, recipe);
  // Last: it moves the tensors that passes above train with.
  if (recipe.virtual_zero_point && run(zero_points)) {
    bring_to_rest(run, data, recipe);
    if (recipe.correct_biases && run(biases)) bring_to_rest(run, data, recipe);
  }
}

void to_chip(Conversion& made) {
  const Recipe& recipe = made.recipe;
  made.chip = lower(made.quantized, recipe.lowering, recipe.quirks, &made.report);
  const Deployment deployment{find_target(recipe.target), recipe.lowering.runtime_level};
  PassSequence(made.chip, made.report)([&](Graph& chip) { return require_exponents(chip, deployment, recipe.quirks); });
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
  run(cut_arg_max);
  run([&](Graph& graph) { return decompose_group_normalization(graph, origins); });
  run([&](Graph& graph) { return rewrite_choices(graph, origins, recipe.widths.bits); });
  // What a chip runs depends on the width.
  run([&](Graph& graph) { return assign_widths(graph, recipe.widths, recipe.layers, recipe.quirks); });
  if (recipe.legalize->fuse_functions) run([&](Graph& graph) { return fuse_scalar_functions(graph, origins); });
  const Deployment deployment{find_target(recipe.target), recipe.lowering.runtime_level};
  run([&](Graph& graph) { return legalize(graph, deployment, *recipe.legalize, origins, recipe.widths.bits); });
  run(remove_dead_code);
  run(separate_parameters);
  // What had no axes has one now (reductions).
  infer_shapes(simplified, zero_inputs(simplified));
}

Conversion convert(const Graph& network, const Dataset& data, const Recipe& recipe) {
  const OneThreadEach same_for_any_number_of_threads;
  if (recipe.mixed_precision) return convert(network, data, with_chosen_widths(network, data, recipe));
  const Quirks& quirks = recipe.quirks;
  Conversion made{recipe, {}, {}, {}, {}};
  made.quantized = prepare(network, recipe, &made.report);

  PassSequence run(made.quantized, made.report);
  if (recipe.equalize) run([&](Graph& graph) { return equalize_where_it_helps(graph, data, recipe); });
  if (recipe.center_channels) run([&](Graph& graph) { return center_where_it_helps(graph, data, recipe); });
  if (recipe.split_channels) run([&](Graph& graph) { return split_channels_where_it_helps(graph, data, recipe); });
  if (recipe.center_logits) run([&](Graph& graph) { return center_logits(graph, data, *recipe.center_logits); });
  // Behind equalization, which would move the weights off the grid on which the first part lies.
  if (recipe.split_layers) run([&](Graph& graph) { return split_where_it_helps(graph, data, recipe); });
  quantize_network(run, data, recipe);
  made.reference = made.quantized.clone();
  recover(run, made.reference, data, recipe);
  // Last, since passes know functions by their type and not as LUT.
  run([&](Graph& graph) {
    return retype_functions_without_kernel(graph, recipe.tables.value_or(TableOptions()), quirks);
  });
  if (recipe.tables)
    run([&](Graph& graph) { return retype_tables(graph, recipe.widths.bits, *recipe.tables, quirks); });

  to_chip(made);
  return made;
}

Conversion finish(const Graph& quantized, const Dataset& data, const Recipe& recipe) {
  Conversion made{recipe, quantized.clone(), quantized.clone(), {}, {}};
  PassSequence run(made.quantized, made.report);
  bring_to_rest(run, data, recipe);
  to_chip(made);
  return made;
}

}  // namespace espq
