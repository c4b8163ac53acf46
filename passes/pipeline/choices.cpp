#include "passes/pipeline/choices.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <cmath>

#include "passes/optimize/correct_biases.h"
#include "passes/optimize/held_out.h"
#include "passes/optimize/reference.h"
#include "passes/pipeline/convert.h"
#include "passes/pipeline/quantize_network.h"
#include "passes/quantize/settle.h"

namespace espq {
namespace {

constexpr int64_t kTrialCorrections = 8;  // batches
constexpr int64_t kTrialBatches = 16;     // for each of calibration and comparison: a choice, not a calibration

double decibels(double noise) { return 10 * std::log10(noise); }

Graph quantized(const Graph& prepared, const Dataset& data, const Recipe& recipe) {
  Graph trial = prepared.clone();
  quantize_network([&](const auto& pass) { return pass(trial).changed(); }, data, recipe);
  return trial;
}

/// Noise of the network as the recipe will leave it, short of training: what bias correction takes back does not count.
double noise_of(const Graph& prepared, const Dataset& data, const Recipe& recipe, Reference& reference) {
  Graph trial = quantized(prepared, data, recipe);
  if (recipe.correct_biases) {
    CorrectBiasesOptions options;
    options.batches = kTrialCorrections;
    options.sweeps = 1;
    if (correct_biases(trial, trial.clone(), data, options).changed()) settle(trial, recipe.quirks);
  }
  return reference.simulated_error(trial);
}

}  // namespace

PassReport equalize_where_it_helps(Graph& prepared, const Dataset& data, const Recipe& recipe) {
  const Target& target = find_target(recipe.target);
  const DividedData divided = hold_out(data);
  const Dataset training = first_batches(divided.training, kTrialBatches);
  Reference reference(prepared, first_batches(divided.held_out, kTrialBatches));
  double best = noise_of(prepared, training, recipe, reference);
  std::string compared = fmt::format("held-out noise {:.1f} dB", decibels(best));
  PassReport report{"equalize"};
  std::optional<Graph> chosen;
  for (const bool activations : {true, false}) {
    EqualizeOptions options = *recipe.equalize;
    if (activations && !options.activations) continue;
    if (!activations && options.activations && target.per_channel_weights) continue;
    options.activations = activations;
    Graph scaled = prepared.clone();
    PassReport changes = equalize(scaled, training, target, options);
    if (!changes.changed()) continue;
    const double noise = noise_of(scaled, training, recipe, reference);
    compared += fmt::format(", by weights{} {:.1f} dB", activations ? " and activations" : "", decibels(noise));
    if (!(noise < best)) continue;
    best = noise;
    chosen = std::move(scaled);
    report = std::move(changes);
  }
  report.note(compared + (chosen ? "" : ": left as it was"));
  if (!chosen) return report;
  prepared = std::move(*chosen);
  prepared.touch();
  return report;
}

Recipe with_chosen_widths(const Graph& network, const Dataset& data, const Recipe& recipe) {
  Recipe chosen = recipe;
  chosen.mixed_precision.reset();
  Graph prepared = prepare(network, chosen);
  if (chosen.equalize) equalize_where_it_helps(prepared, data, chosen);
  const DividedData divided = hold_out(data);
  const Graph narrow = quantized(prepared, first_batches(divided.training, kTrialBatches), chosen);
  const MixedPrecision found = mixed_precision(narrow, first_batches(divided.held_out, kTrialBatches),
                                               chosen.lowering.runtime_level, *recipe.mixed_precision);
  spdlog::info("{}", to_text(found.report));
  const LayerTable given(narrow, recipe.layers);
  for (const std::string& name : found.operations)
    if (!given.of(*narrow.find_operation(name)).width) chosen.layers[name].width = Width::Int16;
  return chosen;
}

}  // namespace espq
