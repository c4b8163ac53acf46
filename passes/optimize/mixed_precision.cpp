#include "passes/optimize/mixed_precision.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <unordered_set>

#include "core/exec/executor.h"
#include "core/graph/match.h"
#include "core/ops/operator.h"
#include "core/support/progress.h"
#include "passes/optimize/held_out.h"
#include "passes/optimize/option_checks.h"
#include "passes/optimize/projected_errors.h"
#include "passes/optimize/reference.h"
#include "passes/optimize/split_layers.h"
#include "passes/quantize/assign_widths.h"

namespace espq {
namespace {

constexpr int64_t kProbes = 4;  // of every batch
constexpr double kSwapGain = 0.01;

using Members = std::unordered_set<const Operation*>;

bool can_be_wide(const Operation& operation, RuntimeLevel level) {
  return operation.quantized() && operation.width() == Width::Int8 && !definition_of(operation).quantization.passive &&
         (has_kernel(definition_of(operation), level, Width::Int16) || becomes_table(operation));
}

/// A function of the one tensor that it reads.
bool is_function(const Operation& operation) {
  const auto& definition = definition_of(operation);
  return definition.layout == LayoutRule::Elementwise && definition.quantization.table_int8;
}

/// What rounds together, in topological order.
struct Layer {
  std::vector<const Operation*> members;
  bool candidate;
  double cost;  ///< share of the multiplications
};

std::vector<Layer> layers_of(const Graph& graph, RuntimeLevel level) {
  const auto shares = shares_of_multiplications(graph);
  std::vector<Layer> layers;
  Members taken;
  for (const Operation* operation : graph.topological_order()) {
    const auto& definition = definition_of(*operation);
    if (taken.count(operation) || !operation->quantized() || definition.quantization.passive) continue;
    const auto share = shares.find(operation->name());
    Layer layer{{operation}, can_be_wide(*operation, level), share == shares.end() ? 0 : share->second};
    if (definition.has_weights())
      for (const Operation* behind = sole_consumer(graph, *operation->output());
           behind && can_be_wide(*behind, level) &&
           (is_function(*behind) || definition_of(*behind).quantization.fused_activation);
           behind = sole_consumer(graph, *behind->output()))
        layer.members.push_back(behind);
    taken.insert(layer.members.begin(), layer.members.end());
    layers.push_back(std::move(layer));
  }
  return layers;
}

using Places = std::vector<size_t>;

/// Sets of layers without rounding, as the first-order errors see them and as the network does.
class Search {
 public:
  Search(const Graph& graph, const Graph& teacher, const Dataset& data, const std::vector<Layer>& layers)
      : graph_(graph), layers_(layers), reference_(teacher, data), executor_(graph, Precision::Simulated) {
    std::vector<const Operation*> operations;
    for (const Layer& layer : layers) operations.insert(operations.end(), layer.members.begin(), layer.members.end());
    const at::Tensor errors = projected_errors(graph, operations, reference_, kProbes);
    int64_t column = 0;
    for (const Layer& layer : layers) {
      const auto count = static_cast<int64_t>(layer.members.size());
      errors_.push_back(errors.narrow(1, column, count).sum(1));
      column += count;
    }
    for (const at::Tensor& error : errors_) sum_ = sum_.defined() ? sum_ + error : error;
  }

  /// Noise of the outputs without the rounding of these layers, to first order.
  double promised(const Places& exact) const {
    at::Tensor rest = sum_;
    for (const size_t layer : exact) rest = rest - errors_[layer];
    return rest.square().sum().item<double>() / kProbes;
  }

  /// The same, measured.
  double noise(const Places& exact) {
    Members members;
    for (const size_t layer : exact) members.insert(layers_[layer].members.begin(), layers_[layer].members.end());
    executor_.set_dequantized([&members](const Operation& operation) { return members.count(&operation) != 0; });
    return reference_.error(graph_, executor_);
  }

  /// Of the sets that promise most, `count` at most, the one with the least noise; nothing when there are none.
  std::optional<std::pair<double, Places>> best_of(const std::vector<Places>& sets, int64_t count) {
    std::vector<std::pair<double, size_t>> order;
    for (size_t i = 0; i < sets.size(); ++i) order.emplace_back(promised(sets[i]), i);
    std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    order.resize(std::min(order.size(), static_cast<size_t>(count)));
    std::optional<std::pair<double, Places>> best;
    for (const auto& [promise, place] : order) {
      const double measured = noise(sets[place]);
      if (!best || measured < best->first) best.emplace(measured, sets[place]);
    }
    return best;
  }

 private:
  const Graph& graph_;
  const std::vector<Layer>& layers_;
  Reference reference_;
  Executor executor_;
  std::vector<at::Tensor> errors_;  ///< of every layer, in projections of the outputs
  at::Tensor sum_;
};

/// Sets with one layer more, and sets with one exchanged, within the budget.
class Neighbours {
 public:
  Neighbours(const std::vector<Layer>& layers, double budget) : layers_(layers), budget_(budget) {}

  std::vector<Places> with_one_more(const Places& chosen) const {
    std::vector<Places> sets;
    for (size_t layer = 0; layer < layers_.size(); ++layer)
      if (layers_[layer].candidate && std::find(chosen.begin(), chosen.end(), layer) == chosen.end()) {
        Places more = chosen;
        more.push_back(layer);
        if (cost_of(more) <= budget_) sets.push_back(std::move(more));
      }
    return sets;
  }

  std::vector<Places> with_one_exchanged(const Places& chosen) const {
    std::vector<Places> sets;
    for (size_t i = 0; i < chosen.size(); ++i) {
      Places fewer = chosen;
      fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
      for (Places& other : with_one_more(fewer))
        if (other.back() != chosen[i]) sets.push_back(std::move(other));
    }
    return sets;
  }

  double cost_of(const Places& chosen) const {
    double cost = 0;
    for (const size_t layer : chosen) cost += layers_[layer].cost;
    return cost;
  }

 private:
  const std::vector<Layer>& layers_;
  double budget_;
};

void check(const MixedPrecisionOptions& options) {
  require_at_least(static_cast<double>(options.layers), 1, "mixed_precision.layers");
  require_at_least(static_cast<double>(options.batches), 1, "mixed_precision.batches");
  require_at_least(static_cast<double>(options.candidates), 1, "mixed_precision.candidates");
  require_share(options.gain, "mixed_precision.gain");
  require_share(options.cost, "mixed_precision.cost");
}

}  // namespace

MixedPrecision mixed_precision(const Graph& quantized, const Graph& teacher, const Dataset& data, RuntimeLevel level,
                               const MixedPrecisionOptions& options) {
  check(options);
  MixedPrecision result{{}, {"mixed_precision"}};
  const std::vector<Layer> layers = layers_of(quantized, level);
  Search search(quantized, teacher, first_batches(data, options.batches), layers);
  const Neighbours neighbours(layers, options.cost);
  Places chosen;
  double noise = search.noise(chosen);
  std::string steps = fmt::format("noise {:.1f} dB", 10 * std::log10(noise));
  const auto take = [&](const std::vector<Places>& sets, double gain, std::string_view how) {
    const auto best = search.best_of(sets, options.candidates);
    if (!best || !(best->first < noise * (1 - gain))) return false;
    std::tie(noise, chosen) = *best;
    steps += fmt::format(", {} {} {:.1f} dB", how, layers[chosen.back()].members[0]->name(), 10 * std::log10(noise));
    return true;
  };
  while (static_cast<int64_t>(chosen.size()) < options.layers) {
    if (!take(neighbours.with_one_more(chosen), options.gain, "without that of")) break;
    report_progress("mixed precision", chosen.size(), static_cast<size_t>(options.layers));
  }
  for (int64_t round = 0; round < options.layers; ++round)
    if (!take(neighbours.with_one_exchanged(chosen), kSwapGain, "one exchanged for")) break;
  std::sort(chosen.begin(), chosen.end());
  for (const size_t layer : chosen)
    for (const Operation* operation : layers[layer].members) result.operations.push_back(operation->name());
  result.report.note(fmt::format("{}; {:.1f} % of the multiplications", steps, neighbours.cost_of(chosen) * 100));
  return result;
}

}  // namespace espq
