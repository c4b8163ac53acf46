#include "core/analysis/error_analysis.h"

#include <ATen/ATen.h>

#include <cmath>
#include <unordered_set>

#include "core/exec/executor.h"
#include "core/support/error.h"

namespace espq {
namespace {

std::vector<Operation*> computing_operations(const Graph& graph) {
  std::vector<Operation*> result;
  for (Operation* operation : graph.operations())
    if (operation->quantized && definition_of(*operation).quantization.computing) result.push_back(operation);
  return result;
}

NamedTensors feed_of(const Graph& graph, const Dataset& data, size_t batch) {
  const Tensors inputs = data.inputs(graph, batch);
  NamedTensors feed;
  for (size_t i = 0; i < inputs.size(); ++i) feed.emplace(graph.inputs[i]->name(), inputs[i]);
  return feed;
}

double batch_size(const Tensors& inputs) {
  return inputs.empty() || inputs[0].dim() == 0 ? 1.0 : static_cast<double>(inputs[0].size(0));
}

/// The operation and everything that depends on it, in execution order.
std::vector<Operation*> suffix_of(const std::vector<Operation*>& order, const Operation* start) {
  std::unordered_set<const Variable*> changed;
  std::vector<Operation*> result;
  for (Operation* operation : order) {
    bool reached = operation == start;
    for (const Variable* input : operation->inputs()) reached |= input && changed.count(input) != 0;
    if (!reached) continue;
    result.push_back(operation);
    changed.insert(operation->outputs().begin(), operation->outputs().end());
  }
  return result;
}

/// The float graph as the chip would compute it without quantization: same kernels, no grids.
Executor float_executor(const Graph& graph) {
  Executor executor(graph, Precision::Simulated);
  executor.set_dequantized([](const Operation&) { return true; });
  return executor;
}

/// One layer-wise experiment: everything after `operation`, which alone is quantized.
struct Experiment {
  std::vector<Operation*> operations;
  std::vector<std::string> outputs;  ///< graph outputs that the operation reaches
  std::vector<std::string> feed;     ///< float values that the experiment reads
  Executor executor;
};

Experiment make_experiment(const Graph& graph, const std::vector<Operation*>& order, const Operation* operation) {
  Experiment experiment{suffix_of(order, operation), {}, {}, Executor(graph, Precision::Simulated)};
  experiment.executor.set_dequantized([operation](const Operation& other) { return &other != operation; });
  std::unordered_set<const Variable*> produced, fed;
  for (const Operation* step : experiment.operations) produced.insert(step->outputs().begin(), step->outputs().end());
  for (const Operation* step : experiment.operations)
    for (const Variable* input : step->inputs())
      if (input && !input->is_parameter() && !produced.count(input) && fed.insert(input).second)
        experiment.feed.push_back(input->name());
  for (const Variable* output : graph.outputs)
    if (produced.count(output)) experiment.outputs.push_back(output->name());
  return experiment;
}

}  // namespace

std::vector<OperationError> graphwise_errors(const Graph& quantized, const Dataset& data,
                                             const ErrorAnalysisOptions& options) {
  const std::vector<Operation*> operations = computing_operations(quantized);
  std::vector<OperationError> errors;
  std::vector<std::string> outputs;
  for (const Operation* operation : operations) {
    errors.push_back({operation->name(), operation->type, 0});
    outputs.push_back(operation->output()->name());
  }
  if (operations.empty()) return errors;
  Executor reference = float_executor(quantized), simulated(quantized, Precision::Simulated);
  double total = 0;
  for (size_t batch = 0; batch < std::min(options.batches, data.size()); ++batch) {
    const NamedTensors feed = feed_of(quantized, data, batch);
    const NamedTensors want = reference.run(feed, outputs), got = simulated.run(feed, outputs);
    const double weight = batch_size(data.inputs(quantized, batch));
    total += weight;
    for (size_t i = 0; i < errors.size(); ++i)
      errors[i].value += weight * measure(options.measure, got.at(outputs[i]), want.at(outputs[i]));
  }
  for (OperationError& error : errors) error.value /= total > 0 ? total : 1;
  return errors;
}

std::vector<OperationError> layerwise_errors(const Graph& quantized, const Dataset& data,
                                             const ErrorAnalysisOptions& options) {
  const std::vector<Operation*> order = quantized.topological_order();
  std::vector<OperationError> errors;
  std::vector<Experiment> experiments;
  std::unordered_set<std::string> kept;
  for (const Variable* output : quantized.outputs) kept.insert(output->name());
  for (const Operation* operation : computing_operations(quantized)) {
    errors.push_back({operation->name(), operation->type, 0});
    experiments.push_back(make_experiment(quantized, order, operation));
    kept.insert(experiments.back().feed.begin(), experiments.back().feed.end());
  }
  Executor reference = float_executor(quantized);
  double total = 0;
  for (size_t batch = 0; batch < std::min(options.batches, data.size()); ++batch) {
    NamedTensors values = reference.run(feed_of(quantized, data, batch), {kept.begin(), kept.end()});
    const double weight = batch_size(data.inputs(quantized, batch));
    total += weight;
    for (size_t i = 0; i < experiments.size(); ++i) {
      Experiment& experiment = experiments[i];
      NamedTensors feed;
      for (const std::string& name : experiment.feed) feed.emplace(name, values.at(name));
      const Tensors got = experiment.executor.run_operations(experiment.operations, feed, experiment.outputs);
      for (size_t k = 0; k < got.size(); ++k)
        errors[i].value += weight * measure(options.measure, got[k], values.at(experiment.outputs[k])) / got.size();
    }
  }
  for (OperationError& error : errors) error.value /= total > 0 ? total : 1;
  return errors;
}

std::string error_table(std::vector<OperationError> errors, Measure kind, size_t rows) {
  if (errors.empty()) return "no quantized computing operation\n";
  const bool larger_is_better = kind == Measure::Cosine;
  std::stable_sort(errors.begin(), errors.end(), [&](const OperationError& a, const OperationError& b) {
    return larger_is_better ? a.value < b.value : a.value > b.value;
  });
  errors.resize(std::min(errors.size(), rows));
  size_t width = 5;
  double low = errors[0].value, high = errors[0].value;
  for (const OperationError& error : errors) {
    width = std::max(width, error.operation.size());
    low = std::min(low, error.value);
    high = std::max(high, error.value);
  }
  const char* title = kind == Measure::NoiseToSignal ? "noise / signal power"
                      : kind == Measure::Cosine      ? "cosine similarity"
                                                     : "mean squared error";
  std::string text = fmt::format("{:<{}}  {}\n", "layer", width, title);
  constexpr int kCells = 20;
  for (const OperationError& error : errors) {
    const double share = high > 0 ? error.value / high : 0;
    const int cells = std::clamp(static_cast<int>(std::lround(share * kCells)), 0, kCells);
    std::string bar;
    for (int cell = 0; cell < kCells; ++cell) bar += cell < cells ? "█" : " ";
    const std::string value = kind == Measure::MeanSquaredError ? fmt::format("{:.6g}", error.value)
                                                                : fmt::format("{:.3f} %", error.value * 100);
    text += fmt::format("{:<{}}  {}  {}\n", error.operation, width, bar, value);
  }
  return text;
}

}  // namespace espq
