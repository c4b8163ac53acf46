#include "passes/optimize/mixed_precision.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "core/exec/executor.h"
#include "core/graph/match.h"
#include "core/ops/operator.h"
#include "core/support/progress.h"
#include "passes/optimize/held_out.h"
#include "passes/optimize/option_checks.h"
#include "passes/optimize/reference.h"
#include "passes/quantize/assign_widths.h"

namespace espq {
namespace {

using Layer = std::vector<const Operation*>;
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

/// Layers in topological order.
std::vector<Layer> layers_of(const Graph& graph, RuntimeLevel level) {
  std::vector<Layer> layers;
  Members taken;
  for (const Operation* operation : graph.topological_order()) {
    if (taken.count(operation) || !can_be_wide(*operation, level)) continue;
    Layer layer{operation};
    if (definition_of(*operation).has_weights())
      for (const Operation* behind = sole_consumer(graph, *operation->output());
           behind && can_be_wide(*behind, level) &&
           (is_function(*behind) || definition_of(*behind).quantization.fused_activation);
           behind = sole_consumer(graph, *behind->output()))
        layer.push_back(behind);
    taken.insert(layer.begin(), layer.end());
    layers.push_back(std::move(layer));
  }
  return layers;
}

class Search {
 public:
  Search(const Graph& graph, const Dataset& data)
      : data_(data), reference_(graph, data), executor_(graph, Precision::Simulated) {
    for (const std::string& name : reference_.variables()) wanted_.push_back(graph.find_variable(name));
    for (size_t batch = 0; batch < data.size(); ++batch) inputs_.push_back(data.inputs(graph, batch));
  }

  /// Noise of the outputs when these operations do not round.
  double noise_without(const Members& exact) {
    executor_.set_dequantized([&exact](const Operation& operation) { return exact.count(&operation) != 0; });
    return reference_.error([&](size_t batch) { return executor_.run(inputs_[batch], wanted_); });
  }

 private:
  const Dataset& data_;
  Reference reference_;
  Executor executor_;
  std::vector<const Variable*> wanted_;
  std::vector<Tensors> inputs_;
};

Members joined(Members members, const Layer& layer) {
  members.insert(layer.begin(), layer.end());
  return members;
}

}  // namespace

MixedPrecision mixed_precision(const Graph& quantized, const Dataset& data, RuntimeLevel level,
                               const MixedPrecisionOptions& options) {
  require_at_least(static_cast<double>(options.layers), 1, "mixed_precision.layers");
  require_at_least(static_cast<double>(options.batches), 1, "mixed_precision.batches");
  require_at_least(static_cast<double>(options.candidates), 1, "mixed_precision.candidates");
  require_share(options.gain, "mixed_precision.gain");
  MixedPrecision result{{}, {"mixed_precision"}};
  const Dataset batches = first_batches(data, options.batches);
  Search search(quantized, batches);
  std::vector<Layer> layers = layers_of(quantized, level);
  Members chosen;
  double noise = search.noise_without(chosen);
  std::string steps = fmt::format("noise {:.1f} dB", 10 * std::log10(noise));
  for (int64_t round = 0; round < options.layers && !layers.empty(); ++round) {
    std::vector<std::pair<double, size_t>> found;
    for (size_t i = 0; i < layers.size(); ++i) {
      found.push_back({search.noise_without(joined(chosen, layers[i])), i});
      report_progress("mixed precision", i + 1, layers.size());
    }
    std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    if (!(found[0].first < noise * (1 - options.gain))) break;
    noise = found[0].first;
    const Layer best = layers[found[0].second];
    steps += fmt::format(", without that of {} {:.1f} dB", best[0]->name(), 10 * std::log10(noise));
    chosen = joined(std::move(chosen), best);
    for (const Operation* operation : best) result.operations.push_back(operation->name());
    // The next rounds look at what promised most in this one.
    std::vector<Layer> rest;
    for (size_t i = 1; i < std::min(found.size(), static_cast<size_t>(options.candidates) + 1); ++i)
      rest.push_back(layers[found[i].second]);
    layers = std::move(rest);
  }
  result.report.note(steps);
  return result;
}

}  // namespace espq
