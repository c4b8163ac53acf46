#include "core/analysis/error_analysis.h"

#include <ATen/ATen.h>

#include <cmath>
#include <unordered_set>

#include "core/analysis/comparison_report.h"
#include "core/analysis/float_run.h"
#include "core/data/dataset.h"
#include "core/exec/side_by_side.h"
#include "core/graph/match.h"
#include "core/support/memory.h"
#include "core/support/progress.h"

namespace espq {
namespace {

std::vector<const Operation*> computing_operations(const Graph& graph) {
  std::vector<const Operation*> result;
  for (const Operation* operation : graph.operations())
    if (operation->quantized() && definition_of(*operation).has_weights()) result.push_back(operation);
  return result;
}

/// All that make numbers of their own.
std::vector<const Operation*> arithmetic_operations(const Graph& graph) {
  std::vector<const Operation*> result;
  for (const Operation* operation : graph.operations())
    if (operation->quantized() && !definition_of(*operation).quantization.passive &&
        at::isFloatingType(operation->output()->dtype()))
      result.push_back(operation);
  return result;
}

/// A copy of the graph whose parameters have their channels innermost, too.
Graph with_channels_innermost(const Graph& graph) {
  Graph copy = graph.clone();
  for (Variable* variable : copy.variables())
    if (variable->is_parameter()) variable->set_value(channels_innermost(variable->value()));
  return copy;
}

/// The operation and everything that depends on it, in execution order.
std::vector<const Operation*> suffix_of(const std::vector<const Operation*>& order, const Operation* start) {
  std::unordered_set<const Variable*> changed;
  std::vector<const Operation*> result;
  for (const Operation* operation : order) {
    bool reached = operation == start;
    for (const Variable* input : operation->inputs()) reached |= input && changed.count(input) != 0;
    if (!reached) continue;
    result.push_back(operation);
    changed.insert(operation->outputs().begin(), operation->outputs().end());
  }
  return result;
}

/// One layer-wise experiment: everything after `operation`, which alone is quantized.
class Experiment {
 public:
  Experiment(const Graph& graph, const std::vector<const Operation*>& order, const Operation* operation,
             WantedVariables& values)
      : piece_(compile(graph, suffix_of(order, operation), operation, values)) {}

  /// Sum of the measure over the graph outputs that the operation reaches.
  double error(Measure kind, const Tensors& values) {
    Tensors feeds;
    for (const size_t place : feeds_) feeds.push_back(values[place]);
    const Tensors got = piece_.run(feeds);
    double sum = 0;
    for (size_t i = 0; i < got.size(); ++i) sum += measure(kind, got[i], values[outputs_[i]]);
    return sum;
  }
  size_t reached() const { return outputs_.size(); }

 private:
  std::vector<size_t> feeds_, outputs_;  ///< places of float values
  Piece piece_;

  Piece compile(const Graph& graph, const std::vector<const Operation*>& operations, const Operation* quantized,
                WantedVariables& values) {
    std::unordered_set<const Variable*> produced, read;
    for (const Operation* step : operations) produced.insert(step->outputs().begin(), step->outputs().end());
    std::vector<const Variable*> feeds, outputs;
    for (const Operation* step : operations)
      for (const Variable* input : step->inputs())
        if (input && !input->is_parameter() && !produced.count(input) && read.insert(input).second)
          feeds.push_back(input);
    for (const Variable* output : graph.outputs())
      if (produced.count(output)) outputs.push_back(output);
    for (const Variable* feed : feeds) feeds_.push_back(values.place_of(*feed));
    for (const Variable* output : outputs) outputs_.push_back(values.place_of(*output));
    Executor executor(graph, Precision::Simulated);
    executor.set_dequantized([quantized](const Operation& other) { return &other != quantized; });
    return executor.compile(operations, feeds, outputs);
  }
};

std::vector<OperationError> without_errors(const std::vector<const Operation*>& operations) {
  std::vector<OperationError> errors;
  errors.reserve(operations.size());
  for (const Operation* operation : operations)
    errors.push_back({operation->name(), operation->type(), operation->output()->name(), 0});
  return errors;
}

/// Calls `measure_batch(inputs, weight)` for each batch and divides what it added to the errors by the sum of weights.
void average(std::vector<OperationError>& errors, const Graph& graph, const Dataset& data, size_t batches,
             const std::function<void(const Tensors&, double)>& measure_batch) {
  double total = 0;
  batches = std::min(batches, data.size());
  for (size_t batch = 0; batch < batches; ++batch) {
    const Tensors inputs = data.inputs(graph, batch);
    const double weight = batch_size(inputs);
    total += weight;
    measure_batch(inputs, weight);
    report_progress("error analysis", batch + 1, batches);
  }
  for (OperationError& error : errors) error.value /= total > 0 ? total : 1;
}

/// Tensors that the quantized graph holds less half of their codes (virtual zero points): a Clip that starts elsewhere
/// than its counterpart, the layer in front of it, and what only moves its values.
bool is_shifted(const Variable& variable, const Graph& reference) {
  const Operation* producer = variable.producer();
  if (!producer) return false;
  if (definition_of(*producer).quantization.passive && producer->input(0))
    return is_shifted(*producer->input(0), reference);
  const auto shifts = [&](const Operation& operation) {
    const Operation* counterpart = reference.find_operation(operation.name());
    return operation.type() == "Clip" && counterpart &&
           (counterpart->type() != "Clip" ||
            scalar_constant(counterpart->input(1)) != scalar_constant(operation.input(1)));
  };
  return shifts(*producer) || (variable.uses().size() == 1 && shifts(*variable.uses().front().operation));
}

}  // namespace

AccumulatedErrors graphwise_errors(const Graph& quantized, const Dataset& data, const ErrorAnalysisOptions& options) {
  const Graph& exact = options.reference ? *options.reference : quantized;
  std::vector<const Operation*> operations = arithmetic_operations(quantized);
  std::erase_if(operations, [&](const Operation* operation) { return is_shifted(*operation->output(), exact); });
  AccumulatedErrors errors{{}, without_errors(operations)};
  std::vector<OperationError> rows;  // outputs, then operations
  std::vector<const Variable*> tensors;
  for (const Variable* output : quantized.outputs()) {
    if (!at::isFloatingType(output->dtype())) continue;
    const Operation* producer = output->producer();
    errors.outputs.push_back({producer ? producer->name() : "", producer ? producer->type() : "", output->name(), 0});
    tensors.push_back(output);
  }
  for (const Operation* operation : operations) tensors.push_back(operation->output());
  std::vector<const Variable*> exact_tensors;
  exact_tensors.reserve(tensors.size());
  for (const Variable* tensor : tensors) exact_tensors.push_back(exact.find_variable(tensor->name()));
  for (const auto* list : {&errors.outputs, &errors.operations}) rows.insert(rows.end(), list->begin(), list->end());
  if (rows.empty()) return errors;
  Executor reference = float_executor(exact), simulated(quantized, Precision::Simulated);
  average(rows, quantized, data, options.batches, [&](const Tensors& inputs, double weight) {
    const Tensors want = reference.run(inputs, exact_tensors), got = simulated.run(inputs, tensors);
    for (size_t i = 0; i < rows.size(); ++i) rows[i].value += weight * measure(options.measure, got[i], want[i]);
  });
  const auto first_operation = rows.begin() + static_cast<std::ptrdiff_t>(errors.outputs.size());
  return {{rows.begin(), first_operation}, {first_operation, rows.end()}};
}

std::vector<OperationError> layerwise_errors(const Graph& source, const Dataset& data,
                                             const ErrorAnalysisOptions& options) {
  keep_freed_memory();
  const Graph quantized = with_channels_innermost(source);
  const std::vector<const Operation*> order = quantized.topological_order(),
                                      operations = computing_operations(quantized);
  std::vector<OperationError> errors = without_errors(operations);
  WantedVariables kept;
  std::vector<Experiment> experiments;
  experiments.reserve(operations.size());
  for (const Operation* operation : operations) experiments.emplace_back(quantized, order, operation, kept);
  const auto outputs = static_cast<double>(quantized.outputs().size());
  const double unreached = options.measure == Measure::Cosine ? 1 : 0;  // what no difference measures
  const OneThreadEach one_thread_each;
  Executor reference = float_executor(quantized);
  average(errors, quantized, data, options.batches, [&](const Tensors& inputs, double weight) {
    Tensors innermost;
    for (const at::Tensor& input : inputs) innermost.push_back(channels_innermost(input));
    const Tensors values = reference.run(innermost, kept.list());
    share_out(experiments.size(), one_thread_each.threads(), [&](size_t i) {
      const double others = unreached * (outputs - static_cast<double>(experiments[i].reached()));
      errors[i].value += weight * (experiments[i].error(options.measure, values) + others) / outputs;
    });
  });
  return errors;
}

namespace {

std::string figure(double value, Measure kind) {
  return kind == Measure::MeanSquaredError ? fmt::format("{:.6g}", value) : fmt::format("{:.3f} %", value * 100);
}

}  // namespace

std::string error_table(std::vector<OperationError> errors, Measure kind, size_t rows) {
  if (errors.empty()) return "no quantized operation\n";
  const bool larger_is_better = kind == Measure::Cosine;
  std::stable_sort(errors.begin(), errors.end(), [&](const OperationError& a, const OperationError& b) {
    return larger_is_better ? a.value < b.value : a.value > b.value;
  });
  errors.resize(std::min(errors.size(), rows));
  size_t width = 5, type_width = 0;
  double high = errors[0].value;
  for (const OperationError& error : errors) {
    width = std::max(width, error.operation.size());
    type_width = std::max(type_width, error.type.size());
    high = std::max(high, error.value);
  }
  const char* title = kind == Measure::NoiseToSignal ? "noise / signal power"
                      : kind == Measure::Cosine      ? "cosine similarity"
                                                     : "mean squared error";
  std::string text = fmt::format("{:<{}}  {:<{}}  {}\n", "layer", width, "", type_width, title);
  for (const OperationError& error : errors) {
    const std::string bar = text_bar(high > 0 ? error.value / high : 0);
    text += fmt::format("{:<{}}  {:<{}}  {}  {}\n", error.operation, width, error.type, type_width, bar,
                        figure(error.value, kind));
  }
  return text;
}

std::string to_text(const AccumulatedErrors& errors, Measure measure, size_t rows) {
  std::string text;
  for (const OperationError& output : errors.outputs) {
    text += fmt::format("output {}: ", output.tensor);
    text += measure == Measure::NoiseToSignal
                ? fmt::format("SNR {:.1f} dB (noise / signal power {})\n", -10 * std::log10(output.value),
                              figure(output.value, measure))
                : figure(output.value, measure) + "\n";
  }
  return text + error_table(errors.operations, measure, rows);
}

}  // namespace espq
