#include "core/analysis/error_analysis.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <atomic>
#include <exception>
#include <mutex>
#include <set>
#include <thread>
#include <unordered_set>

#include "core/analysis/comparison_report.h"
#include "core/analysis/float_run.h"
#include "core/support/progress.h"

namespace espq {
namespace {

std::vector<const Operation*> computing_operations(const Graph& graph) {
  std::vector<const Operation*> result;
  for (const Operation* operation : graph.operations())
    if (operation->quantized() && definition_of(*operation).quantization.computing) result.push_back(operation);
  return result;
}

/// LibTorch convolves images whose channels lie innermost in memory in half the time; shapes and values stay the same.
at::Tensor channels_last(const at::Tensor& tensor) {
  return tensor.dim() == 4 ? tensor.contiguous(at::MemoryFormat::ChannelsLast) : tensor;
}

NamedTensors channels_last(NamedTensors tensors) {
  for (auto& [name, tensor] : tensors) tensor = channels_last(tensor);
  return tensors;
}

/// A copy of the graph with its parameters in that order.
Graph with_channels_last(const Graph& graph) {
  Graph copy = graph.clone();
  for (Variable* variable : copy.variables())
    if (variable->is_parameter()) variable->set_value(channels_last(variable->value()));
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
  Experiment(const Graph& graph, const std::vector<const Operation*>& order, const Operation* operation)
      : operations_(suffix_of(order, operation)), executor_(graph, Precision::Simulated) {
    executor_.set_dequantized([operation](const Operation& other) { return &other != operation; });
    std::unordered_set<const Variable*> produced;
    for (const Operation* step : operations_) produced.insert(step->outputs().begin(), step->outputs().end());
    for (const Operation* step : operations_)
      for (const Variable* input : step->inputs())
        if (input && !input->is_parameter() && !produced.count(input)) feed.insert(input->name());
    for (const Variable* output : graph.outputs())
      if (produced.count(output)) outputs_.push_back(output->name());
  }

  std::set<std::string> feed;  ///< float values that the experiment reads

  /// Sum of the measure over the graph outputs that the operation reaches; `values` holds these and `feed` in float.
  double error(Measure kind, const NamedTensors& values) {
    NamedTensors read;
    for (const std::string& name : feed) read.emplace(name, values.at(name));
    const Tensors got = executor_.run_operations(operations_, read, outputs_);
    double sum = 0;
    for (size_t i = 0; i < got.size(); ++i) sum += measure(kind, got[i], values.at(outputs_[i]));
    return sum;
  }
  size_t reached() const { return outputs_.size(); }

 private:
  std::vector<const Operation*> operations_;
  std::vector<std::string> outputs_;
  Executor executor_;
};

/// Every operator on one thread while it lives, new threads included.
class OneThreadEach {
 public:
  OneThreadEach() : before_(at::get_num_threads()) { at::set_num_threads(1); }
  ~OneThreadEach() { at::set_num_threads(before_); }
  OneThreadEach(const OneThreadEach&) = delete;
  OneThreadEach& operator=(const OneThreadEach&) = delete;

 private:
  int before_;
};

/// work(0) .. work(count - 1) on `threads` threads: a network of small layers keeps several cores busier this way than
/// layer by layer.
void share_out(size_t count, size_t threads, const std::function<void(size_t)>& work) {
  std::atomic<size_t> next = 0;
  std::exception_ptr failure;
  std::mutex failing;
  const auto take = [&] {
    try {
      for (size_t i = next++; i < count; i = next++) work(i);
    } catch (...) {
      const std::lock_guard lock(failing);
      failure = std::current_exception();
    }
  };
  std::vector<std::thread> helpers;
  for (size_t i = 1; i < std::min(threads, count); ++i) helpers.emplace_back(take);
  take();
  for (std::thread& helper : helpers) helper.join();
  if (failure) std::rethrow_exception(failure);
}

std::vector<OperationError> without_errors(const std::vector<const Operation*>& operations) {
  std::vector<OperationError> errors;
  for (const Operation* operation : operations) errors.push_back({operation->name(), operation->type(), 0});
  return errors;
}

/// Calls `measure_batch(feed, weight)` for each batch and divides what it added to the errors by the sum of weights.
void average(std::vector<OperationError>& errors, const Graph& graph, const Dataset& data, size_t batches,
             const std::function<void(const NamedTensors&, double)>& measure_batch) {
  double total = 0;
  batches = std::min(batches, data.size());
  for (size_t batch = 0; batch < batches; ++batch) {
    const Tensors inputs = data.inputs(graph, batch);
    const double weight = batch_size(inputs);
    total += weight;
    measure_batch(named_inputs(graph, inputs), weight);
    report_progress("error analysis", batch + 1, batches);
  }
  for (OperationError& error : errors) error.value /= total > 0 ? total : 1;
}

}  // namespace

std::vector<OperationError> graphwise_errors(const Graph& quantized, const Dataset& data,
                                             const ErrorAnalysisOptions& options) {
  const std::vector<const Operation*> operations = computing_operations(quantized);
  std::vector<OperationError> errors = without_errors(operations);
  std::vector<std::string> outputs;
  for (const Operation* operation : operations) outputs.push_back(operation->output()->name());
  if (operations.empty()) return errors;
  Executor reference = float_executor(quantized), simulated(quantized, Precision::Simulated);
  average(errors, quantized, data, options.batches, [&](const NamedTensors& feed, double weight) {
    const NamedTensors want = reference.run(feed, outputs), got = simulated.run(feed, outputs);
    for (size_t i = 0; i < errors.size(); ++i)
      errors[i].value += weight * measure(options.measure, got.at(outputs[i]), want.at(outputs[i]));
  });
  return errors;
}

std::vector<OperationError> layerwise_errors(const Graph& source, const Dataset& data,
                                             const ErrorAnalysisOptions& options) {
  const Graph quantized = with_channels_last(source);
  const std::vector<const Operation*> order = quantized.topological_order(),
                                      operations = computing_operations(quantized);
  std::vector<OperationError> errors = without_errors(operations);
  std::vector<Experiment> experiments;
  std::set<std::string> kept;
  for (const Variable* output : quantized.outputs()) kept.insert(output->name());
  for (const Operation* operation : operations) {
    experiments.emplace_back(quantized, order, operation);
    kept.insert(experiments.back().feed.begin(), experiments.back().feed.end());
  }
  const auto outputs = static_cast<double>(quantized.outputs().size());
  const double unreached = options.measure == Measure::Cosine ? 1 : 0;  // what no difference measures
  const auto threads = static_cast<size_t>(at::get_num_threads());
  const OneThreadEach one_thread_each;  // LibTorch chooses other kernels, with other rounding, for more
  Executor reference = float_executor(quantized);
  average(errors, quantized, data, options.batches, [&](const NamedTensors& feed, double weight) {
    const NamedTensors values = reference.run(channels_last(feed), {kept.begin(), kept.end()});
    share_out(experiments.size(), threads, [&](size_t i) {
      const double others = unreached * (outputs - static_cast<double>(experiments[i].reached()));
      errors[i].value += weight * (experiments[i].error(options.measure, values) + others) / outputs;
    });
  });
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
  double high = errors[0].value;
  for (const OperationError& error : errors) {
    width = std::max(width, error.operation.size());
    high = std::max(high, error.value);
  }
  const char* title = kind == Measure::NoiseToSignal ? "noise / signal power"
                      : kind == Measure::Cosine      ? "cosine similarity"
                                                     : "mean squared error";
  std::string text = fmt::format("{:<{}}  {}\n", "layer", width, title);
  for (const OperationError& error : errors) {
    const std::string bar = text_bar(high > 0 ? error.value / high : 0);
    const std::string value = kind == Measure::MeanSquaredError ? fmt::format("{:.6g}", error.value)
                                                                : fmt::format("{:.3f} %", error.value * 100);
    text += fmt::format("{:<{}}  {}  {}\n", error.operation, width, bar, value);
  }
  return text;
}

}  // namespace espq
