#include "passes/optimize/center_logits.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "core/exec/executor.h"
#include "core/graph/match.h"
#include "core/ops/limits.h"
#include "core/ops/linear.h"
#include "core/support/progress.h"
#include "passes/optimize/held_out.h"
#include "passes/optimize/keep_if_same.h"
#include "passes/optimize/option_checks.h"
#include "passes/optimize/reference.h"
#include "passes/quantize/observer.h"

namespace espq {
namespace {

/// What reaches the Softmax from the layer, through operations that only move values.
struct Logits {
  LinearOperation layer;
  const Variable* value;
  double lowest = std::numeric_limits<double>::infinity(), highest = -lowest;

  void observe(const at::Tensor& seen) {
    lowest = std::min(lowest, seen.min().item<double>());
    highest = std::max(highest, seen.max().item<double>());
  }
};

std::optional<Logits> logits_of(const Graph& graph, const Operation& softmax) {
  const Operation* reader = &softmax;
  while (const Variable* value = reader->input(0)) {
    const Operation* producer = value->producer();
    if (!producer || sole_consumer(graph, *value) != reader) return std::nullopt;
    if (const auto linear = linear_operation(*producer)) {
      if (!linear->bias_slot() || !linear->bias() || element_count(value).value_or(0) == 0) return std::nullopt;
      return Logits{*linear, value};
    }
    if (!definition_of(*producer).quantization.passive) return std::nullopt;
    reader = producer;
  }
  return std::nullopt;
}

std::vector<Logits> find_logits(const Graph& graph) {
  std::vector<Logits> found;
  for (const Operation* operation : graph.topological_order())
    if (definition_of(*operation).ignores_shift)
      if (auto logits = logits_of(graph, *operation)) found.push_back(*logits);
  return found;
}

void observe(const Graph& graph, const Dataset& data, std::vector<Logits>& found) {
  std::vector<const Variable*> wanted;
  wanted.reserve(found.size());
  for (const Logits& logits : found) wanted.push_back(logits.value);
  Executor executor(graph, Precision::Float);
  for (size_t batch = 0; batch < data.size(); ++batch) {
    const Tensors values = executor.run(data.inputs(graph, batch), wanted);
    for (size_t i = 0; i < found.size(); ++i) found[i].observe(values[i]);
    report_progress("logits", batch + 1, data.size());
  }
}

bool is_finer_centred(const Logits& logits, int bits) {
  const double half = (logits.highest - logits.lowest) / 2;
  return std::isfinite(half) && exponent_of_range(-half, half, bits, RangeRule::Tight) <
                                    exponent_of_range(logits.lowest, logits.highest, bits, RangeRule::Tight);
}

}  // namespace

PassReport center_logits(Graph& graph, const Dataset& data, const CenterLogitsOptions& options) {
  require_at_least(static_cast<double>(options.batches), 1, "center_logits.batches");
  PassReport report{"center_logits"};
  std::vector<Logits> found = find_logits(graph);
  if (found.empty()) return report;
  const Dataset batches = first_batches(data, options.batches);
  observe(graph, batches, found);
  Graph shifted = graph.clone();
  for (const Logits& logits : found) {
    const std::string& name = logits.layer.operation().name();
    const Width width = logits.layer.operation().width().value_or(Width::Int8);
    if (width.is_float() || !is_finer_centred(logits, width.activations)) continue;
    const auto layer = *linear_operation(*shifted.find_operation(name));
    layer.set_bias(shifted, *layer.bias() - (logits.highest + logits.lowest) / 2);
    report.count("layer whose results were moved to the middle of their grid", name);
  }
  if (!report.changed()) return report;
  Reference before(graph, batches);
  keep_if_same(graph, std::move(shifted), before, report);
  return report;
}

}  // namespace espq
