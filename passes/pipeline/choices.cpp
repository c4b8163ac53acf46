#include "passes/pipeline/choices.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <cmath>
#include <functional>
#include <limits>

#include "core/exec/executor.h"
#include "core/exec/side_by_side.h"
#include "core/support/memory.h"
#include "core/support/progress.h"
#include "passes/optimize/correct_biases.h"
#include "passes/optimize/judges.h"
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
  DividedData parts;  ///< the first one is what trials are calibrated with
  Dataset judging;    ///< both

  explicit TrialData(const Dataset& data) {
    const DividedData divided = hold_out(data);
    parts = {channels_innermost(first_batches(divided.training, kTrialBatches)),
             channels_innermost(first_batches(divided.held_out, kTrialBatches))};
    std::vector<Dataset::Batch> batches;
    for (const Dataset& part : {parts.training, parts.held_out})
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

/// A network with one layer split.
struct Split {
  size_t place;  ///< of the layer in the list of those to try
  Graph network;
  PassReport changes;
  JudgedNoise noise = {};
};

/// Trials on all cores, each on one: whole networks keep them busier than single operators do, and numbers do not
/// depend on how many there are.
void side_by_side(std::string_view step, size_t count, const std::function<void(size_t)>& trial) {
  keep_freed_memory();  // every trial needs what the one before it freed
  const OneThreadEach one_thread_each;
  std::atomic<size_t> done = 0;
  share_out(count, one_thread_each.threads(), [&](size_t i) {
    {
      const QuietProgress quiet;
      trial(i);
    }
    report_progress(step, ++done, count);
  });
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
    return reference.simulated_error(corrected(network, trials.parts.training, recipe));
  };
  const Graph plain = prepared.clone();
  Equalization equalization(plain, trials.parts.training, *recipe.equalize);
  const std::vector<EqualizeOptions> ways = candidates(*recipe.equalize, target);
  constexpr double kUnchanged = std::numeric_limits<double>::infinity();
  std::vector<double> noise(ways.size() + 1, kUnchanged);  // the last one is that of the network as it is
  side_by_side("equalization", noise.size(), [&](size_t i) {
    Graph scaled = plain.clone();
    if (i == ways.size() || equalization.apply(scaled, target, ways[i]).changed()) noise[i] = noise_of(scaled);
  });
  std::string compared = fmt::format("noise {:.1f} dB", decibels(noise.back()));
  for (size_t i = 0; i < ways.size(); ++i)
    if (noise[i] != kUnchanged)
      compared +=
          fmt::format(", {} with strength {:.2g} {:.1f} dB", words_for(ways[i]), ways[i].strength, decibels(noise[i]));
  const auto best = static_cast<size_t>(std::min_element(noise.begin(), noise.end() - 1) - noise.begin());
  PassReport report{"equalize"};
  const bool helps = noise[best] < noise.back();
  if (helps) report = equalization.apply(prepared, target, ways[best]);
  report.note(compared + (helps ? "" : ": left as it was"));
  return report;
}

PassReport center_where_it_helps(Graph& prepared, const Dataset& data, const Recipe& recipe) {
  const TrialData trials(data);
  const Graph plain = prepared.clone();
  const CenteredChannels centered(plain, trials.parts.training, *recipe.center_channels);
  PassReport report{"center_channels"};
  if (!centered.any()) return report;
  Judges judges(prepared, trials.parts);
  constexpr CenterOf kWays[] = {CenterOf::Layers, CenterOf::Sums};
  JudgedNoise noise[3];  // the last one is that of the network as it is
  side_by_side("centers of channels", 3, [&](size_t i) {
    Graph trial = plain.clone();
    if (i < 2) centered.apply(trial, kWays[i]);
    noise[i] = judges.noise(corrected(trial, trials.parts.training, recipe));
  });
  const std::string compared =
      fmt::format("noise {:.1f} dB, of layers {:.1f} dB, of sums {:.1f} dB", decibels(noise[2].mean()),
                  decibels(noise[0].mean()), decibels(noise[1].mean()));
  const size_t best = noise[0].mean() < noise[1].mean() ? 0 : 1;
  const bool helps = noise[best].falls_below(noise[2], recipe.center_channels->gain);
  if (helps) report = centered.apply(prepared, kWays[best]);
  report.note(compared + (helps ? "" : ": left as it was"));
  return report;
}

PassReport split_channels_where_it_helps(Graph& prepared, const Dataset& data, const Recipe& recipe) {
  const Target& target = find_target(recipe.target);
  const TrialData trials(data);
  const Graph plain = prepared.clone();
  const SplitChannels outliers(plain, trials.parts.training, *recipe.split_channels);
  constexpr SplitChannelsOf kWays[] = {SplitChannelsOf::Results, SplitChannelsOf::Weights};
  Graph split[] = {plain.clone(), plain.clone()};
  PassReport reports[] = {outliers.apply(split[0], target, kWays[0]), outliers.apply(split[1], target, kWays[1])};
  PassReport report{"split_channels"};
  if (!reports[0].changed() && !reports[1].changed()) return report;
  Judges judges(prepared, trials.parts);
  JudgedNoise noise[3];  // the last one is that of the network as it is
  side_by_side("outliers of channels", 3, [&](size_t i) {
    if (i == 2 || reports[i].changed())
      noise[i] = judges.noise(corrected(i == 2 ? plain : split[i], trials.parts.training, recipe));
  });
  std::string compared = fmt::format("noise {:.1f} dB", decibels(noise[2].mean()));
  size_t best = 2;
  for (const size_t way : {0, 1}) {
    if (!reports[way].changed()) continue;
    compared += fmt::format(", {} {:.1f} dB", way == 0 ? "of results" : "of weights", decibels(noise[way].mean()));
    if (noise[way].falls_below(noise[2], recipe.split_channels->gain) && noise[way].mean() < noise[best].mean())
      best = way;
  }
  if (best < 2) {
    prepared = std::move(split[best]);
    prepared.touch();
    report = reports[best];
  }
  report.note(compared + (best < 2 ? "" : ": left as it was"));
  return report;
}

PassReport split_where_it_helps(Graph& prepared, const Dataset& data, const Recipe& recipe) {
  const Target& target = find_target(recipe.target);
  const SplitLayersOptions& options = *recipe.split_layers;
  const std::vector<std::string> named = layers_to_split(prepared, options);
  if (!named.empty()) return split_layers(prepared, named, target, options);
  const TrialData trials(data);
  Judges judges(prepared, trials.parts);
  Graph whole;
  JudgedNoise best;
  side_by_side("split layers", 1, [&](size_t) {
    whole = corrected(prepared, trials.parts.training, recipe);
    best = judges.noise(whole);
  });
  Reference ranking(prepared, first_batches(trials.judging, kRankingBatches));
  const std::vector<std::string> worst = worst_weights(whole, ranking);
  PassReport report{"split_layers"};
  std::string compared = fmt::format("noise {:.1f} dB", decibels(best.mean()));
  auto shares = shares_of_multiplications(prepared);
  double cost = 0;
  int failures = 0;
  const size_t most = std::min<size_t>(OneThreadEach().threads(), kFailures);
  for (size_t next = 0; next < worst.size() && failures < kFailures && report.total() < options.layers;) {
    // As many as there are threads are tried ahead. Behind one that helps they are tried again, with it.
    std::vector<Split> ahead;
    for (size_t i = next; i < worst.size() && ahead.size() < most; ++i)
      if (cost + shares[worst[i]] <= options.cost) ahead.push_back({i, prepared.clone(), {"split_layers"}});
    if (ahead.empty()) break;
    side_by_side("split layers", ahead.size(), [&](size_t i) {
      Split& split = ahead[i];
      split.changes = split_layers(split.network, {worst[split.place]}, target, options);
      if (!split.changes.changed()) return;
      infer_shapes(split.network, zero_inputs(split.network));
      split.noise = judges.noise(corrected(split.network, trials.parts.training, recipe));
    });
    for (Split& split : ahead) {
      next = split.place + 1;
      if (!split.changes.changed()) continue;
      const bool helps = split.noise.falls_below(best, options.gain);
      compared += fmt::format(", with {} {:.2f} dB{}", worst[split.place], decibels(split.noise.mean()),
                              helps ? "" : " (left)");
      failures = helps ? 0 : failures + 1;
      if (failures == kFailures) break;
      if (!helps) continue;
      best = split.noise;
      cost += shares[worst[split.place]];
      prepared = std::move(split.network);
      prepared.touch();
      report.merge(split.changes);
      break;
    }
  }
  report.note(fmt::format("{}; {:.1f} % more multiplications", compared, cost * 100));
  return report;
}

Recipe with_chosen_widths(const Graph& network, const Dataset& data, const Recipe& recipe) {
  Recipe chosen = recipe;
  chosen.mixed_precision.reset();
  Graph prepared = prepare(network, chosen);
  if (chosen.equalize) equalize_where_it_helps(prepared, data, chosen);
  if (chosen.center_channels) center_where_it_helps(prepared, data, chosen);
  if (chosen.split_channels) split_channels_where_it_helps(prepared, data, chosen);
  if (chosen.center_logits) center_logits(prepared, data, *chosen.center_logits);
  const TrialData trials(data);
  const Graph narrow = corrected(prepared, trials.parts.training, chosen);
  const MixedPrecision found =
      mixed_precision(narrow, prepared, trials.judging, chosen.lowering.runtime_level, *recipe.mixed_precision);
  spdlog::info("{}", to_text(found.report));
  const LayerTable given(narrow, recipe.layers);
  for (const std::string& name : found.operations)
    if (!given.of(*narrow.find_operation(name)).width) chosen.layers[name].width = Width::Int16;
  return chosen;
}

}  // namespace espq
