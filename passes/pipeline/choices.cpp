#include "passes/pipeline/choices.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <cmath>

#include "core/exec/executor.h"
#include "passes/optimize/correct_biases.h"
#include "passes/optimize/held_out.h"
#include "passes/optimize/reference.h"
#include "passes/pipeline/convert.h"
#include "passes/pipeline/quantize_network.h"
#include "passes/quantize/settle.h"

namespace espq {
namespace {

constexpr int kFailures = 4;            // splits in a row that do not help, before nothing more is tried
constexpr int64_t kRankingBatches = 8;  // to see which to try first
constexpr int64_t kTrialBatches = 16;   // for each of calibration and comparison: a choice, not a calibration

double decibels(double noise) { return 10 * std::log10(noise); }

Graph quantized(const Graph& prepared, const Dataset& data, const Recipe& recipe) {
  Graph trial = prepared.clone();
  quantize_network([&](const auto& pass) { return pass(trial).changed(); }, data, recipe);
  return trial;
}

/// The network as the recipe will leave it, short of training: what bias correction takes back does not count.
Graph corrected(const Graph& prepared, const Dataset& data, const Recipe& recipe) {
  Graph trial = quantized(prepared, data, recipe);
  if (!recipe.correct_biases) return trial;
  CorrectBiasesOptions options;
  options.batches = kTrialBatches;
  options.sweeps = 1;
  if (correct_biases(trial, trial.clone(), data, options).changed()) settle(trial, recipe.quirks);
  return trial;
}

/// What trials are made with. Each has few numbers to choose, and a few samples that nobody calibrated with are a worse
/// judge than all of them.
struct TrialData {
  Dataset calibration, judging;

  explicit TrialData(const Dataset& data) {
    const DividedData divided = hold_out(data);
    calibration = first_batches(divided.training, kTrialBatches);
    std::vector<Dataset::Batch> batches;
    for (const Dataset& part : {calibration, first_batches(divided.held_out, kTrialBatches)})
      for (size_t i = 0; i < part.size(); ++i) batches.push_back(part[i]);
    judging = Dataset(std::move(batches));
  }
};

/// What equalization may be worth trying: it evens ranges, and how far that lowers the noise nobody knows before. The
/// other of two ways to see weights is tried as well: by themselves, or (exponents per row) with their rows.
std::vector<EqualizeOptions> candidates(const EqualizeOptions& wanted, const Target& target) {
  std::vector<EqualizeOptions> ways{wanted}, result;
  if (target.per_channel_weights && !wanted.rows) ways.emplace_back(wanted).rows = true;
  if (!target.per_channel_weights && wanted.activations) ways.emplace_back(wanted).activations = false;
  const auto add = [&](const EqualizeOptions& way, double share) {
    result.emplace_back(way).strength = share * wanted.strength;
  };
  for (const EqualizeOptions& way : ways)
    for (const double share : {1.0, 0.5, 0.25}) add(way, share);
  add(wanted, 0);  // only bounds of Clips move
  return result;
}

std::string_view words_for(const EqualizeOptions& options) {
  return options.rows ? "rows" : options.activations ? "all" : "weights";
}

}  // namespace

PassReport equalize_where_it_helps(Graph& prepared, const Dataset& data, const Recipe& recipe) {
  const Target& target = find_target(recipe.target);
  // What is there to equal another tool is not chosen from.
  if (recipe.equalize->rule == EqualizeRule::Magnitudes) return equalize(prepared, data, target, *recipe.equalize);
  const TrialData trials(data);
  Reference reference(prepared, trials.judging);
  const auto noise_of = [&](const Graph& network) {
    return reference.simulated_error(corrected(network, trials.calibration, recipe));
  };
  double best = noise_of(prepared);
  std::string compared = fmt::format("noise {:.1f} dB", decibels(best));
  PassReport report{"equalize"};
  std::optional<Graph> chosen;
  for (const EqualizeOptions& options : candidates(*recipe.equalize, target)) {
    Graph scaled = prepared.clone();
    PassReport changes = equalize(scaled, trials.calibration, target, options);
    if (!changes.changed()) continue;
    const double noise = noise_of(scaled);
    compared +=
        fmt::format(", {} with strength {:.2g} {:.1f} dB", words_for(options), options.strength, decibels(noise));
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

PassReport split_where_it_helps(Graph& prepared, const Dataset& data, const Recipe& recipe) {
  const Target& target = find_target(recipe.target);
  const SplitLayersOptions& options = *recipe.split_layers;
  const std::vector<std::string> named = layers_to_split(prepared, options);
  if (!named.empty()) return split_layers(prepared, named, target, options);
  const TrialData trials(data);
  Reference reference(prepared, trials.judging);
  const Graph whole = corrected(prepared, trials.calibration, recipe);
  Reference ranking(prepared, first_batches(trials.judging, kRankingBatches));
  const auto worst =
      worst_weights(whole, mean_shifts(prepared, first_batches(trials.calibration, kRankingBatches), target), ranking);
  double best = reference.simulated_error(whole);
  PassReport report{"split_layers"};
  std::string compared = fmt::format("noise {:.1f} dB", decibels(best));
  auto shares = shares_of_multiplications(prepared);
  double cost = 0;
  int failures = 0;
  for (size_t i = 0; i < worst.size() && failures < kFailures && report.total() < options.layers; ++i) {
    if (cost + shares[worst[i]] > options.cost) continue;
    Graph trial = prepared.clone();
    const PassReport changes = split_layers(trial, {worst[i]}, target, options);
    if (!changes.changed()) continue;
    infer_shapes(trial, zero_inputs(trial));
    const double noise = reference.simulated_error(corrected(trial, trials.calibration, recipe));
    const bool helps = noise < best * (1 - options.gain);
    compared += fmt::format(", with {} {:.2f} dB{}", worst[i], decibels(noise), helps ? "" : " (left)");
    failures = helps ? 0 : failures + 1;
    if (!helps) continue;
    best = noise;
    cost += shares[worst[i]];
    prepared = std::move(trial);
    prepared.touch();
    report.merge(changes);
  }
  report.note(fmt::format("{}; {:.1f} % more multiplications", compared, cost * 100));
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
