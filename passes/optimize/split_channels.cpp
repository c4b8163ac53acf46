#include "passes/optimize/split_channels.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <unordered_set>

#include "core/exec/executor.h"
#include "core/exec/side_by_side.h"
#include "core/graph/match.h"
#include "core/ops/linear.h"
#include "core/ops/operator.h"
#include "core/support/progress.h"
#include "passes/optimize/channel_map.h"
#include "passes/optimize/channel_probe.h"
#include "passes/optimize/held_out.h"
#include "passes/optimize/keep_if_same.h"
#include "passes/optimize/layers_named.h"
#include "passes/optimize/option_checks.h"
#include "passes/optimize/reference.h"

namespace espq {
namespace {

/// What a class of channels is multiplied by in front and behind, when it becomes two.
struct Factors {
  double rows = 1, columns = 1;
};
using Chosen = std::unordered_map<int, Factors>;

/// Indices of the channels that are split, in order.
std::vector<int64_t> places(const std::vector<int>& channels, const Chosen& chosen) {
  std::vector<int64_t> result;
  for (size_t i = 0; i < channels.size(); ++i)
    if (chosen.count(channels[i])) result.push_back(static_cast<int64_t>(i));
  return result;
}

/// Entries along `axis` scaled where their channel is split, and the same once more behind the others.
at::Tensor doubled(const at::Tensor& value, int64_t axis, const std::vector<int>& channels, const Chosen& chosen,
                   double Factors::*factor) {
  const std::vector<int64_t> split = places(channels, chosen);
  at::Tensor factors = at::ones({value.size(axis)}, at::kDouble);
  for (const int64_t place : split) factors[place] = chosen.at(channels[static_cast<size_t>(place)]).*factor;
  const at::Tensor scaled = value.to(at::kDouble) * along(factors, axis, value.dim());
  return at::cat({scaled, scaled.index_select(axis, at::tensor(split, at::kLong))}, axis);
}

/// Channels that need more than half of the grid that the largest one asks for, if there are at most `most` of them.
std::vector<int64_t> outliers(const at::Tensor& magnitudes, double share) {
  const double largest = magnitudes.max().item<double>();
  if (!(largest > 0)) return {};
  const double half = std::exp2(std::ceil(std::log2(largest)) - 1);
  const at::Tensor over = at::nonzero(magnitudes > half).flatten();
  const auto most = std::max<int64_t>(1, static_cast<int64_t>(share * static_cast<double>(magnitudes.numel())));
  if (over.numel() > most || over.numel() == magnitudes.numel()) return {};
  return {over.const_data_ptr<int64_t>(), over.const_data_ptr<int64_t>() + over.numel()};
}

/// The channels that may become two.
class Splittable {
 public:
  explicit Splittable(const ChannelMap& map, const Graph& graph) : map_(map), may_(map.classes, true) {
    for (const ChannelMap::Value& value : map.values) values_.emplace(value.variable, &value);
    std::unordered_map<const Operation*, const ChannelMap::Layer*> layers;
    for (const ChannelMap::Layer& layer : map.layers) layers.emplace(&layer.linear.operation(), &layer);
    for (const ChannelMap::Gain& gain : map.gains) leave(gain.rows);
    for (const ChannelMap::Clamp& clamp : map.clamps) leave(clamp.channels);
    for (const ChannelMap::Value& value : map.values) leave_repeated(value.channels);
    for (const Operation* operation : graph.topological_order()) {
      const auto layer = layers.find(operation);
      if (layer != layers.end())
        look_at(*layer->second);
      else
        look_at(*operation);
    }
  }

  bool may(int channel) const { return channel != ChannelMap::kNone && may_[static_cast<size_t>(channel)]; }
  bool all(const std::vector<int>& channels, const std::vector<int64_t>& places) const {
    return std::all_of(places.begin(), places.end(), [&](int64_t i) { return may(channels[static_cast<size_t>(i)]); });
  }

 private:
  void leave(const std::vector<int>& channels) {
    for (const int channel : channels)
      if (channel != ChannelMap::kNone) may_[static_cast<size_t>(channel)] = false;
  }

  void leave_repeated(const std::vector<int>& channels) {
    std::unordered_set<int> seen;
    for (const int channel : channels)
      if (!seen.insert(channel).second) leave({channel});
  }

  void look_at(const ChannelMap::Layer& layer) {
    const LinearOperation& linear = layer.linear;
    if (linear.groups() == 1) return;
    leave(layer.rows);
    leave(layer.columns);
  }

  /// What stands between layers has to do to one more channel what it does to the others.
  void look_at(const Operation& operation) {
    std::vector<size_t> slots;
    for (size_t slot = 0; slot < operation.inputs().size(); ++slot)
      if (operation.input(slot) && values_.count(operation.input(slot))) slots.push_back(slot);
    if (slots.empty()) return;
    const ChannelMap::Value& first = *values_.at(operation.input(slots[0]));
    const auto is_same = [&](const ChannelMap::Value& value) {
      return value.axis == first.axis && value.channels == first.channels;
    };
    bool fits = operation.outputs().size() == 1 && values_.count(operation.output()) &&
                is_same(*values_.at(operation.output()));
    for (const size_t slot : slots) fits = fits && is_same(*values_.at(operation.input(slot)));
    if (slots.size() == 1 && operation.inputs().size() == 1)
      fits = fits && takes_one_more(operation, first.axis);
    else
      fits = fits && operation.type() == "Add" && slots.size() == 2;
    if (fits) return;
    for (const size_t slot : slots) leave(values_.at(operation.input(slot))->channels);
    for (const Variable* output : operation.outputs())
      if (const auto value = values_.find(output); value != values_.end()) leave(value->second->channels);
  }

  static bool takes_one_more(const Operation& operation, int64_t axis) {
    if (!operation.input(0)->shape()) return false;
    const at::Tensor values = probe_values(*operation.input(0)->shape());
    const auto with_first_again = [&](const at::Tensor& value) {
      return at::cat({value, value.narrow(axis, 0, 1)}, axis);
    };
    try {
      return run_on(operation, 0, with_first_again(values))[0].equal(with_first_again(run_on(operation, 0, values)[0]));
    } catch (const std::exception&) {  // a shape that an attribute states
      return false;
    }
  }

  const ChannelMap& map_;
  std::vector<bool> may_;
  std::unordered_map<const Variable*, const ChannelMap::Value*> values_;
};

}  // namespace

struct SplitChannels::Seen {
  const Graph& graph;
  SplitChannelsOptions options;
  ChannelMap map;
  Splittable splittable;
  std::unordered_set<std::string> layers;  ///< whose grids may become finer
  std::vector<at::Tensor> magnitudes;      ///< per value of the map, of every channel, float64
  Reference before;

  Seen(const Graph& network, const Dataset& data, const SplitChannelsOptions& given)
      : graph(network), options(given), map(map_channels(graph)), splittable(map, graph), before(graph, data) {
    const std::vector<std::string> everything{"*"};
    for (std::string& name : layers_named(graph, options.names.empty() ? everything : options.names, "split_channels"))
      layers.insert(std::move(name));
    std::vector<const Variable*> wanted;
    wanted.reserve(map.values.size());
    for (const ChannelMap::Value& value : map.values) wanted.push_back(value.variable);
    Executor executor(graph, Precision::Float);
    magnitudes.resize(wanted.size());
    for (size_t batch = 0; batch < data.size(); ++batch) {
      const Tensors values = executor.run(data.inputs(graph, batch), wanted);
      for (size_t i = 0; i < values.size(); ++i) {
        const int64_t axis = map.values[i].axis;
        const at::Tensor largest =
            values[i].movedim(axis, 0).reshape({values[i].size(axis), -1}).abs().amax(1).to(at::kDouble);
        magnitudes[i] = magnitudes[i].defined() ? at::maximum(magnitudes[i], largest) : largest;
      }
      report_progress("outliers of channels", batch + 1, data.size());
    }
  }

  void choose(const std::vector<int>& channels, const at::Tensor& sizes, Factors factors, Chosen& chosen) const {
    const std::vector<int64_t> split = outliers(sizes, options.share);
    if (!splittable.all(channels, split)) return;  // half of the outliers are no gain
    for (const int64_t place : split) chosen.emplace(channels[static_cast<size_t>(place)], factors);
  }

  /// A tensor that has a grid of its own: a Relu is computed inside the operation in front of it.
  bool is_wanted(const Variable& value) const {
    const Operation* reader = sole_consumer(graph, value);
    if (reader && reader->type() == "Relu") return false;
    const Operation* producer = value.producer();
    if (producer->type() == "Relu" && producer->input(0)->producer()) producer = producer->input(0)->producer();
    return layers.count(producer->name()) || (options.names.empty() && producer->type() == "Add");
  }

  Chosen of_results() const {
    Chosen chosen;
    for (size_t i = 0; i < map.values.size(); ++i) {
      const ChannelMap::Value& value = map.values[i];
      if (is_wanted(*value.variable)) choose(value.channels, magnitudes[i], {.rows = 0.5, .columns = 1}, chosen);
    }
    return chosen;
  }

  Chosen of_weights() const {
    Chosen chosen;
    for (const ChannelMap::Layer& layer : map.layers) {
      if (!layers.count(layer.linear.operation().name()) || layer.linear.groups() != 1) continue;
      const at::Tensor rows = layer.linear.rows_first(layer.linear.weight()).abs().to(at::kDouble);
      if (rows.dim() < 2) continue;
      choose(layer.rows, rows.flatten(1).amax(1), {.rows = 0.5, .columns = 1}, chosen);
      choose(layer.columns, rows.movedim(1, 0).flatten(1).amax(1), {.rows = 1, .columns = 0.5}, chosen);
    }
    return chosen;
  }
};

SplitChannels::SplitChannels(const Graph& graph, const Dataset& data, const SplitChannelsOptions& options) {
  require_at_least(static_cast<double>(options.batches), 1, "split_channels.batches");
  require_share(options.share, "split_channels.share");
  require_share(options.gain, "split_channels.gain");
  const OneThreadEach one_thread_each;  // what is seen is to be the same for any number of them
  seen_ = std::make_unique<Seen>(graph, first_batches(data, options.batches), options);
}

SplitChannels::~SplitChannels() = default;

PassReport SplitChannels::apply(Graph& copy, const Target& target, SplitChannelsOf what) const {
  PassReport report{"split_channels"};
  const bool of_results = what == SplitChannelsOf::Results;
  if (!of_results && target.per_channel_weights) return report;  // every row has its grid already
  const Chosen chosen = of_results ? seen_->of_results() : seen_->of_weights();
  if (chosen.empty()) return report;
  Graph split = copy.clone();
  for (const ChannelMap::Layer& layer : seen_->map.layers) {
    const bool rows = !places(layer.rows, chosen).empty(), columns = !places(layer.columns, chosen).empty();
    if (!rows && !columns) continue;
    const LinearOperation here = *linear_operation(*split.find_operation(layer.linear.operation().name()));
    const int64_t row_axis = here.rule().row_axis(here.operation());  // columns lie along the other of the first two
    at::Tensor weight = here.weight().detach();
    std::optional<at::Tensor> bias;
    if (rows) {
      weight = doubled(weight, row_axis, layer.rows, chosen, &Factors::rows);
      if (here.bias_variable()) bias = doubled(*here.bias(), 0, layer.rows, chosen, &Factors::rows);
    }
    if (columns) weight = doubled(weight, 1 - row_axis, layer.columns, chosen, &Factors::columns);
    here.set_weight(split, weight.contiguous());
    if (bias) here.set_bias(split, *bias);
    if (rows) report.count("layer with channels split", here.operation().name());
  }
  infer_shapes(split, zero_inputs(split));
  report.note("channel", static_cast<int64_t>(chosen.size()));
  keep_if_same(copy, std::move(split), seen_->before, report);
  return report;
}

}  // namespace espq
