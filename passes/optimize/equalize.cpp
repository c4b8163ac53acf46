#include "passes/optimize/equalize.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>
#include <map>
#include <mutex>
#include <tuple>
#include <unordered_map>

#include "core/exec/executor.h"
#include "core/exec/side_by_side.h"
#include "core/graph/edit.h"
#include "core/ops/operator.h"
#include "core/support/progress.h"
#include "passes/optimize/channel_map.h"
#include "passes/optimize/held_out.h"
#include "passes/optimize/option_checks.h"
#include "passes/optimize/reference.h"

namespace espq {

const std::vector<std::pair<EqualizeRule, std::string_view>> EnumNames<EqualizeRule>::values = {
    {EqualizeRule::Shares, "shares"}, {EqualizeRule::Magnitudes, "magnitudes"}};

namespace {

using Vector = std::vector<double>;

Vector to_vector(const at::Tensor& tensor) {
  const at::Tensor values = tensor.to(at::kDouble).contiguous();
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
}

at::Tensor to_tensor(const Vector& values) { return at::tensor(values, at::kDouble); }

/// Largest and smallest value of every channel, over all batches.
struct Ranges {
  Vector highest, lowest;
};

/// A network channel by channel, with what the data show.
struct Channels {
  ChannelMap map;
  std::vector<at::Tensor> magnitudes;  ///< per layer: largest weights [groups, rows of a group, channels of a group]
  std::vector<Ranges> ranges;          ///< of map.values

  explicit Channels(const Graph& graph) : map(map_channels(graph)) {
    for (const ChannelMap::Layer& layer : map.layers) {
      const LinearOperation& linear = layer.linear;
      const int64_t groups = linear.groups(), rows = linear.rows() / groups;
      const at::Tensor weight = linear.rows_first(linear.weight()).to(at::kFloat).abs();
      magnitudes.push_back(weight.reshape({groups, rows, linear.input_channels() / groups, -1}).amax(3));
    }
  }

  void observe(const Graph& graph, const Dataset& data) {
    Executor executor(graph, Precision::Float);
    std::unordered_map<const Variable*, std::pair<const ChannelMap::Value*, Ranges*>> wanted;
    ranges.resize(map.values.size());
    for (size_t i = 0; i < map.values.size(); ++i) wanted[map.values[i].variable] = {&map.values[i], &ranges[i]};
    executor.set_hook([&](SlotEvent& event) {
      if (!event.is_output) return;
      const auto found = wanted.find(event.operation.output(event.slot));
      if (found != wanted.end()) add(event.value, found->second.first->axis, *found->second.second);
    });
    for (size_t batch = 0; batch < data.size(); ++batch) {
      executor.run(data.inputs(graph, batch));
      report_progress("equalization", batch + 1, data.size());
    }
  }

 private:
  static void add(const at::Tensor& value, int64_t axis, Ranges& ranges) {
    const at::Tensor rows = value.movedim(axis, 0).reshape({value.size(axis), -1});
    const Vector highest = to_vector(rows.amax(1)), lowest = to_vector(rows.amin(1));
    if (ranges.highest.empty()) ranges = {highest, lowest};
    for (size_t i = 0; i < highest.size(); ++i) {
      ranges.highest[i] = std::max(ranges.highest[i], highest[i]);
      ranges.lowest[i] = std::min(ranges.lowest[i], lowest[i]);
    }
  }
};

class Equalizer {
 public:
  Equalizer(const Channels& channels, const Target& target, const EqualizeOptions& options)
      : map_(channels.map),
        magnitudes_(channels.magnitudes),
        ranges_(channels.ranges),
        target_(target),
        options_(options) {}

  /// One factor per class, those of full strength. `clipped`: also for channels that meet a Clip.
  Vector factors(bool clipped) const {
    Vector factors = without_strength(clipped);
    const auto [free, limits] = freedom(clipped, clipped ? clip_factor() : 1.0);
    for (int64_t iteration = 0; iteration < options_.iterations; ++iteration) {
      const Vector front = shares_in_front(factors), behind = shares_behind(factors);
      double moved = 0;
      for (size_t i = 0; i < factors.size(); ++i) {
        if (!free[i] || front[i] <= 0) continue;
        const double step = behind[i] > 0 ? std::sqrt(behind[i] / front[i]) : 1 / front[i];
        const double wanted = std::min(factors[i] * step, limits[i]);
        const double next = std::clamp(wanted, 1 / options_.largest_factor, options_.largest_factor);
        moved = std::max(moved, std::fabs(std::log(next / factors[i])));
        factors[i] = next;
      }
      if (moved < 1e-3) break;
    }
    return factors;
  }

  /// Factors of full strength as `strength` leaves them.
  Vector weakened(Vector factors, bool clipped) const {
    const Vector begin = without_strength(clipped);
    const std::vector<bool> free = freedom(clipped, clipped ? clip_factor() : 1.0).first;
    for (size_t i = 0; i < factors.size(); ++i)
      if (free[i]) factors[i] = begin[i] * std::pow(factors[i] / begin[i], options_.strength);
    return factors;
  }

  /// The same from magnitudes of weights: layer by layer, each with the factors of those in front.
  Vector factors_of_magnitudes() const {
    constexpr double kSmallest = 0.1, kLargest = 10;  // of one iteration
    Vector factors(static_cast<size_t>(map_.classes), 1.0);
    const std::vector<bool> free = freedom(false, 1.0).first;
    for (int64_t iteration = 0; iteration < options_.iterations; ++iteration) {
      std::vector<bool> done(factors.size(), false);
      for (const ChannelMap::Layer& layer : map_.layers) {
        Vector front(factors.size(), 0.0), behind(factors.size(), 0.0);
        for (size_t i = 0; i < map_.layers.size(); ++i) {
          const at::Tensor weight = magnitudes(i, factors);
          take_largest(to_vector(weight.amax(2).flatten()), map_.layers[i].rows, front);
          take_largest(to_vector(weight.amax(1).flatten()), map_.layers[i].columns, behind);
        }
        for (const int channel : layer.rows) {
          if (channel == ChannelMap::kNone || !free[channel] || done[channel]) continue;
          done[channel] = true;
          const double up = front[channel], down = behind[channel];
          if (up <= 0 || down <= 0 || up + down < options_.value_threshold) continue;
          factors[channel] *= std::clamp(std::sqrt(down / up), kSmallest, kLargest);
        }
      }
    }
    return factors;
  }

  /// Scales the layers of `graph`, which is the one that was observed or a copy of it.
  void apply(Graph& graph, const Vector& factors, PassReport& report) const {
    for (const ChannelMap::Layer& layer : map_.layers) {
      const Operation& operation = *graph.find_operation(layer.linear.operation().name());
      const LinearOperation linear = *linear_operation(operation);
      const Vector rows = of_channels(factors, layer.rows), columns = of_channels(factors, layer.columns);
      const bool in_rows = is_scaled(rows), in_columns = is_scaled(columns);
      if (in_columns) linear.set_weight(graph, linear.scaled_columns(to_tensor(columns).reciprocal()));
      if (in_rows) {
        linear.set_weight(graph, linear.scaled_rows(to_tensor(rows)));
        if (linear.bias_variable()) linear.set_bias(graph, *linear.bias() * to_tensor(rows));
      }
      if (in_rows || in_columns) report.count("layer scaled", operation.name());
    }
    for (const ChannelMap::Gain& gain : map_.gains) {
      const Vector rows = of_channels(factors, gain.rows);
      if (!is_scaled(rows)) continue;
      Operation& operation = *graph.find_operation(gain.operation->name());
      scale_constant(graph, operation, gain.rule.gain, rows);
      if (gain.rule.offset && operation.input(*gain.rule.offset))
        scale_constant(graph, operation, *gain.rule.offset, rows);
      report.count("normalization scaled", operation.name());
    }
  }

  /// The bounds of Clips whose channels all got the common factor.
  void apply_to_clips(Graph& graph, PassReport& report) const {
    const double common = clip_factor();
    if (common == 1) return;
    for (const ChannelMap::Clamp& clamp : map_.clamps) {
      Operation& operation = *graph.find_operation(clamp.operation->name());
      set_constant(graph, operation, 2, at::scalar_tensor(clamp.high * common, operation.input(2)->dtype()),
                   operation.name() + "_max");
      report.count("bound of a Clip moved to the end of its grid", operation.name());
    }
  }

 private:
  static void scale_constant(Graph& graph, Operation& operation, size_t slot, const Vector& factors) {
    const Variable& constant = *operation.input(slot);
    const at::Tensor scaled = (constant.value().to(at::kDouble) * to_tensor(factors)).to(constant.dtype());
    set_constant(graph, operation, slot, scaled, constant.name());
  }

  static Vector of_channels(const Vector& factors, const std::vector<int>& channels) {
    Vector result;
    for (const int channel : channels) result.push_back(channel == ChannelMap::kNone ? 1.0 : factors[channel]);
    return result;
  }

  static bool is_scaled(const Vector& factors) {
    return std::any_of(factors.begin(), factors.end(), [](double factor) { return factor != 1; });
  }

  const Ranges* ranges_of(const Variable* variable) const {
    for (size_t i = 0; i < map_.values.size(); ++i)
      if (map_.values[i].variable == variable && !ranges_[i].highest.empty()) return &ranges_[i];
    return nullptr;
  }

  /// What brings the bound of all Clips to the end of their grids; 1 where they differ.
  double clip_factor() const {
    double factor = 1;
    for (const ChannelMap::Clamp& clamp : map_.clamps) {
      const Width width = clamp.operation->width().value_or(Width::Int8);
      const bool scalable =
          std::find(clamp.channels.begin(), clamp.channels.end(), ChannelMap::kNone) == clamp.channels.end();
      if (!options_.clip_to_grid || !scalable || width.is_float() || clamp.low != 0 || !std::isfinite(clamp.high))
        return 1;
      const double largest = quant_max(width.activations);
      const double wanted =
          std::ldexp(largest, static_cast<int>(std::ceil(std::log2(clamp.high / largest)))) / clamp.high;
      if (factor != 1 && factor != wanted) return 1;
      factor = wanted;
    }
    return factor;
  }

  /// Only bounds of Clips move.
  Vector without_strength(bool clipped) const {
    Vector factors(static_cast<size_t>(map_.classes), 1.0);
    if (!clipped) return factors;
    const double common = clip_factor();
    for (const ChannelMap::Clamp& clamp : map_.clamps)
      for (const int channel : clamp.channels)
        if (channel != ChannelMap::kNone) factors[channel] = common;
    return factors;
  }

  /// Which classes may move, and how far up, where Clips have been moved by the factor `common`.
  std::pair<std::vector<bool>, Vector> freedom(bool clipped, double common) const {
    std::vector<bool> free(static_cast<size_t>(map_.classes), true);
    Vector limits(free.size(), std::numeric_limits<double>::infinity());
    for (const ChannelMap::Clamp& clamp : map_.clamps) {
      const Ranges* ranges = ranges_of(clamp.operation->input(0));
      for (size_t i = 0; i < clamp.channels.size(); ++i) {
        const int channel = clamp.channels[i];
        if (channel == ChannelMap::kNone) continue;
        if (!clipped || !ranges) {
          free[channel] = false;
          continue;
        }
        // A bound of zero cuts at every size.
        const double used = std::max(clamp.high > 0 ? ranges->highest[i] / clamp.high : 0.0,
                                     clamp.low < 0 ? ranges->lowest[i] / clamp.low : 0.0);
        if (used > options_.clip_share) free[channel] = false;
        if (used > 0) limits[channel] = std::min(limits[channel], common * options_.clip_share / used);
      }
    }
    return {free, limits};
  }

  /// `sizes` into those of the classes where they are larger.
  static void take_largest(const Vector& sizes, const std::vector<int>& channels, Vector& largest) {
    for (size_t i = 0; i < channels.size(); ++i)
      if (channels[i] != ChannelMap::kNone) largest[channels[i]] = std::max(largest[channels[i]], sizes[i]);
  }

  /// The same for shares of `sizes` in the largest.
  static void take_shares(Vector sizes, const std::vector<int>& channels, Vector& shares) {
    const double largest = *std::max_element(sizes.begin(), sizes.end());
    if (!(largest > 0)) return;
    for (double& size : sizes) size /= largest;
    take_largest(sizes, channels, shares);
  }

  /// Largest magnitude of every row's channels under the factors: [groups, rows of a group, channels of a group].
  at::Tensor magnitudes(size_t layer, const Vector& factors) const {
    const ChannelMap::Layer& of = map_.layers[layer];
    const at::Tensor rows = to_tensor(of_channels(factors, of.rows)).to(at::kFloat);
    const at::Tensor columns = to_tensor(of_channels(factors, of.columns)).to(at::kFloat);
    const int64_t groups = of.linear.groups();
    return magnitudes_[layer] * rows.reshape({groups, -1, 1}) / columns.reshape({groups, 1, -1});
  }

  bool exponent_per_row(const ChannelMap::Layer& layer) const {
    return target_.per_channel_weights && !options_.rows && layer.linear.rule().row_exponents;
  }

  Vector shares_in_front(const Vector& factors) const {
    Vector shares(factors.size(), 0.0);
    for (size_t i = 0; i < map_.layers.size(); ++i)
      if (!exponent_per_row(map_.layers[i]))
        take_shares(to_vector(magnitudes(i, factors).amax(2).flatten()), map_.layers[i].rows, shares);
    for (const ChannelMap::Gain& gain : map_.gains) {
      const at::Tensor sizes = gain.operation->input(gain.rule.gain)->value().to(at::kDouble).abs();
      take_shares(to_vector(sizes * to_tensor(of_channels(factors, gain.rows))), gain.rows, shares);
    }
    if (!options_.activations) return shares;
    for (size_t i = 0; i < map_.values.size(); ++i) {
      const ChannelMap::Value& value = map_.values[i];
      if (ranges_[i].highest.empty() || fused_into_reader(*value.variable)) continue;
      Vector sizes = of_channels(factors, value.channels);
      for (size_t channel = 0; channel < sizes.size(); ++channel)
        sizes[channel] *= std::max(ranges_[i].highest[channel], -ranges_[i].lowest[channel]);
      take_shares(sizes, value.channels, shares);
    }
    return shares;
  }

  /// A tensor that no grid rounds: its only reader is the activation function that the chip computes along.
  static bool fused_into_reader(const Variable& variable) {
    return variable.uses().size() == 1 &&
           definition_of(*variable.uses().front().operation).quantization.fused_activation;
  }

  Vector shares_behind(const Vector& factors) const {
    Vector shares(factors.size(), 0.0);
    for (size_t i = 0; i < map_.layers.size(); ++i) {
      at::Tensor weight = magnitudes(i, factors);
      if (exponent_per_row(map_.layers[i])) {
        // A row of one channel has an exponent for it alone.
        if (weight.size(2) == 1) continue;
        weight = weight / weight.amax(2, true).clamp_min(1e-30);
      }
      take_shares(to_vector(weight.amax(1).flatten()), map_.layers[i].columns, shares);
    }
    return shares;
  }

  const ChannelMap& map_;
  const std::vector<at::Tensor>& magnitudes_;
  const std::vector<Ranges>& ranges_;
  const Target& target_;
  const EqualizeOptions& options_;
};

void check(const EqualizeOptions& options) {
  require_at_least(static_cast<double>(options.iterations), 1, "equalize.iterations");
  require_at_least(static_cast<double>(options.batches), 1, "equalize.batches");
  require_share(options.clip_share, "equalize.clip_share");
  require_share(options.strength, "equalize.strength");
  require_at_least(options.value_threshold, 0, "equalize.value_threshold");
  require_at_least(options.largest_factor, 1, "equalize.largest_factor");
}

}  // namespace

struct Equalization::Seen {
  Seen(Channels seen, const Graph& graph, const Dataset& data) : channels(std::move(seen)), before(graph, data) {}

  Channels channels;
  Reference before;

  /// Factors of full strength, in which most of the time goes: found once for all strengths.
  Vector full_factors(const Equalizer& equalizer, const Target& target, EqualizeOptions options, bool clipped) {
    options.strength = 1;
    Found* found = nullptr;
    {
      const std::lock_guard lock(looking);
      found = &known[{&target, clipped, options}];
    }
    std::call_once(found->once, [&] { found->factors = equalizer.factors(clipped); });
    return found->factors;
  }

 private:
  struct Found {
    std::once_flag once;
    Vector factors;
  };
  std::mutex looking;
  std::map<std::tuple<const Target*, bool, EqualizeOptions>, Found> known;
};

Equalization::Equalization(const Graph& graph, const Dataset& data, const EqualizeOptions& options) {
  check(options);
  const OneThreadEach one_thread_each;  // what is seen is to be the same for any number of them
  const Dataset batches = first_batches(data, options.batches);
  seen_ = std::make_unique<Seen>(Channels(graph), graph, batches);
  if (seen_->channels.map.classes > 0) seen_->channels.observe(graph, batches);
}

Equalization::~Equalization() = default;

PassReport Equalization::apply(Graph& copy, const Target& target, const EqualizeOptions& options) {
  check(options);
  PassReport report{"equalize"};
  const ChannelMap& map = seen_->channels.map;
  report.note("class of channels", map.classes);
  if (map.classes == 0) return report;
  const Equalizer equalizer(seen_->channels, target, options);
  const bool by_magnitudes = options.rule == EqualizeRule::Magnitudes;
  // First with channels that a Clip bounds on the data only, then without them.
  std::vector<bool> attempts;
  if (!by_magnitudes) attempts.push_back(true);
  if (by_magnitudes || !map.clamps.empty()) attempts.push_back(false);
  for (const bool clipped : attempts) {
    Graph scaled = copy.clone();
    PassReport changes{"equalize"};
    equalizer.apply(scaled,
                    by_magnitudes
                        ? equalizer.factors_of_magnitudes()
                        : equalizer.weakened(seen_->full_factors(equalizer, target, options, clipped), clipped),
                    changes);
    if (clipped) equalizer.apply_to_clips(scaled, changes);
    if (!changes.changed()) return report;
    const double noise = seen_->before.float_error(scaled);
    if (noise > kSameFunction) {
      report.note(fmt::format("undone, the float outputs changed by {:.0f} dB{}", 10 * std::log10(noise),
                              clipped ? " (with channels that meet a Clip)" : ""));
      continue;
    }
    copy = std::move(scaled);
    copy.touch();
    report.merge(changes);
    return report;
  }
  return report;
}

PassReport equalize(Graph& graph, const Dataset& data, const Target& target, const EqualizeOptions& options) {
  const Graph before = graph.clone();
  return Equalization(before, data, options).apply(graph, target, options);
}

}  // namespace espq
