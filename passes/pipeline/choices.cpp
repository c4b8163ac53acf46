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
  Dataset calibration, held_out, judging;

  explicit TrialData(const Dataset& data) {
    const DividedData divided = hold_out(data);
    calibration = first_batches(divided.training, kTrialBatches);
    held_out = first_batches(divided.held_out, kTrialBatches);
    std::vector<Dataset::Batch> batches;
    for (const Dataset& part : {calibration, held_out})
      for (size_t i = 0; i < part.size(); ++i) batches.push_back(part[i]);
    judging = Dataset(std::move(batches));
  }
};

/// Noise of the outputs on data that the trial was calibrated with, and on others. The best of many trials is good on
/// some data by chance; on both it is more likely to be good.
class Judges {
 public:
  struct Noise {
    double calibrated, held_out;
    double decibels() const { return espq::decibels((calibrated + held_out) / 2); }
    bool falls_below(const Noise& other, double gain) const {
      return calibrated < other.calibrated * (1 - gain) && held_out < other.held_out * (1 - gain);
    }
  };

  Judges(const Graph& network, const TrialData& data)
      : calibrated_(network, data.calibration), held_out_(network, data.held_out) {}

  Noise noise(const Graph& trial) { return {calibrated_.simulated_error(trial), held_out_.simulated_error(trial)}; }

 private:
  Reference calibrated_, held_out_;
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
  Equalization equalization(prepared, trials.calibration, *recipe.equalize);
  for (const EqualizeOptions& options : candidates(*recipe.equalize, target)) {
    Graph scaled = prepared.clone();
    PassReport changes = equalization.apply(scaled, target, options);
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
  Judges judges(prepared, trials);
  const Graph whole = corrected(prepared, trials.calibration, recipe);
  Reference ranking(prepared, first_batches(trials.judging, kRankingBatches));
  const std::vector<std::string> worst = worst_weights(whole, ranking);
  Judges::Noise best = judges.noise(whole);
  PassReport report{"split_layers"};
  std::string compared = fmt::format("noise {:.1f} dB", best.decibels());
  auto shares = shares_of_multiplications(prepared);
  double cost = 0;
  int failures = 0;
  for (size_t i = 0; i < worst.size() && failures < kFailures && report.total() < options.layers; ++i) {
    if (cost + shares[worst[i]] > options.cost) continue;
    Graph trial = prepared.clone();
    const PassReport changes = split_layers(trial, {worst[i]}, target, options);
    if (!changes.changed()) continue;
    infer_shapes(trial, zero_inputs(trial));
    const Judges::Noise noise = judges.noise(corrected(trial, trials.calibration, recipe));
    const bool helps = noise.falls_below(best, options.gain);
    compared += fmt::format(", with {} {:.2f} dB{}", worst[i], noise.decibels(), helps ? "" : " (left)");
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
  if (chosen.center_logits) center_logits(prepared, data, *chosen.center_logits);
  const TrialData trials(data);
  const Graph narrow = corrected(prepared, trials.calibration, chosen);
  const MixedPrecision found =
      mixed_precision(narrow, trials.judging, chosen.lowering.runtime_level, *recipe.mixed_precision);
  spdlog::info("{}", to_text(found.report));
  const LayerTable given(narrow, recipe.layers);
  for (const std::string& name : found.operations)
    if (!given.of(*narrow.find_operation(name)).width) chosen.layers[name].width = Width::Int16;
  return chosen;
}

}  // namespace espq
