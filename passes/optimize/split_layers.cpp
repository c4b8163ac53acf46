#include "passes/optimize/split_layers.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <unordered_set>

#include "core/analysis/float_run.h"
#include "core/exec/executor.h"
#include "core/exec/side_by_side.h"
#include "core/graph/edit.h"
#include "core/ops/limits.h"
#include "core/ops/linear.h"
#include "core/quant/fake_quantize.h"
#include "core/quant/scheme.h"
#include "core/support/error.h"
#include "core/support/progress.h"
#include "passes/optimize/layers_named.h"
#include "passes/optimize/option_checks.h"
#include "passes/optimize/own_bias.h"
#include "passes/quantize/observer.h"

namespace espq {

const std::vector<std::pair<SplitMethod, std::string_view>> EnumNames<SplitMethod>::values = {
    {SplitMethod::Remainder, "remainder"}, {SplitMethod::Balance, "balance"}};

namespace {

constexpr int kBits = 8;  // of weights that have too few

void check(const SplitLayersOptions& options) {
  require_at_least(static_cast<double>(options.layers), 1, "split_layers.layers");
  require_share(options.gain, "split_layers.gain");
  require_at_least(options.cost, 0, "split_layers.cost");
  require_at_least(options.threshold, 0, "split_layers.threshold");
  require_share(options.percentile, "split_layers.percentile");
}

/// The part of the weights [rows, ...] that the grid holds which a calibration by range gives them.
at::Tensor on_grid(const LinearOperation& linear, const at::Tensor& weight, const Target& target) {
  const bool per_row = target.per_channel_weights && linear.rule().row_exponents;
  const std::vector<int> exponents =
      per_row ? exponents_of_channels(weight, 0, kBits, RangeRule::Tight)
              : std::vector<int>{exponent_of_range(weight.min().item<double>(), weight.max().item<double>(), kBits,
                                                   RangeRule::Tight)};
  return fake_quantize(weight, exponents, per_row ? 0 : -1, kBits, target.rounding);
}

at::Tensor half_of_large(const at::Tensor& weight, const SplitLayersOptions& options) {
  const at::Tensor magnitudes = weight.abs();
  const double threshold =
      options.threshold > 0
          ? options.threshold
          : std::get<0>(magnitudes.flatten().sort())[static_cast<int64_t>(options.percentile *
                                                                          static_cast<double>(magnitudes.numel() - 1))]
                .item<double>();
  return at::where(magnitudes > threshold, weight / 2, at::zeros({}, weight.options()));
}

void split(Graph& graph, const LinearOperation& linear, const at::Tensor& rest) {
  linear.set_weight(graph, linear.weight().to(at::kDouble) - rest.to(at::kDouble));
  Operation& whole = linear.operation(graph);
  const std::string name = whole.name(), type = whole.type(), rest_name = free_operation_name(graph, name + "_rest");
  const AttributeMap attributes = whole.attributes();
  const std::vector<Variable*> inputs = whole.inputs();
  std::vector<Variable*> rest_inputs(inputs.begin(),
                                     inputs.begin() + static_cast<std::ptrdiff_t>(linear.weight_slot()) + 1);
  rest_inputs.back() = &graph.add_parameter(free_variable_name(graph, rest_name + "_weight"), rest);
  // What later passes take back of rounding, and of a shift of the data, goes into biases.
  if (linear.bias_slot() && *linear.bias_slot() == rest_inputs.size() && linear.bias_variable())
    rest_inputs.push_back(&graph.add_parameter(free_variable_name(graph, rest_name + "_bias"),
                                               at::zeros({linear.rows()}, rest.options())));
  Variable& result = *whole.output();
  Variable &first = add_value(graph, result, result.shape()), &second = add_value(graph, result, result.shape());
  graph.remove(whole);
  graph.add_operation(type, name, inputs, {&first}, attributes);
  graph.add_operation(type, rest_name, std::move(rest_inputs), {&second}, attributes);
  graph.add_operation("Add", free_operation_name(graph, name + "_sum"), {&first, &second}, {&result});
}

/// Of one run. A ConvTranspose multiplies every input by its kernel, the others compute every output from theirs.
double multiplications(const LinearOperation& linear) {
  const Operation& operation = linear.operation();
  const auto elements = [](const Variable* value) { return static_cast<double>(element_count(value).value_or(0)); };
  if (operation.type() != "ConvTranspose") return elements(operation.output()) * static_cast<double>(linear.columns());
  const int64_t channels = linear.input_channels() / linear.groups(), kernel = linear.columns() / channels;
  const int64_t rows = linear.rows() / linear.groups();
  return elements(operation.input(0)) * static_cast<double>(rows * kernel);
}

const Variable& data_of(const LinearOperation& linear) {
  return *linear.operation().input(linear.weight_slot() == 0 ? 1 : 0);
}

/// A layer, and what rounding its weights adds to the mean of each of its channels: what a bias takes back.
struct RoundedWeights {
  LinearOperation layer;
  size_t feed, result;  ///< places of what it reads and gives
  Piece rounded;
  at::Tensor mean = {};  ///< [rows] in float64
};

std::vector<RoundedWeights> rounded_weights(const Graph& quantized, Reference& reference) {
  WantedVariables wanted;
  Executor exact = float_executor(quantized), rounds(quantized, Precision::Simulated);
  rounds.set_hook([](SlotEvent& event) {
    const auto linear = linear_operation(event.operation);
    if (event.is_output || event.slot != static_cast<int>(linear->weight_slot())) event.value = event.raw;
  });
  std::vector<RoundedWeights> layers;
  for (const Operation* operation : quantized.topological_order()) {
    const auto linear = linear_operation(*operation);
    if (!linear || !operation->quantized()) continue;
    const Variable& feed = data_of(*linear);
    layers.push_back({*linear, wanted.place_of(feed), wanted.place_of(*operation->output()),
                      rounds.compile({operation}, {&feed}, {operation->output()})});
  }
  const auto batches = static_cast<double>(reference.batches());
  for (size_t batch = 0; batch < reference.batches(); ++batch) {
    const Tensors values = exact.run(reference.data().inputs(quantized, batch), wanted.list());
    for (RoundedWeights& layer : layers) {
      const at::Tensor difference = layer.rounded.run({values[layer.feed]})[0] - values[layer.result];
      const at::Tensor mean = channel_mean(layer.layer, difference) / batches;
      layer.mean = layer.mean.defined() ? layer.mean + mean : mean;
    }
  }
  return layers;
}

/// A quantized network with exact weights in one layer after another, and biases that correct no rounded ones. What
/// does not depend on the layer is computed once per batch.
class OneExactLayer {
 public:
  OneExactLayer(const Graph& quantized, const std::vector<RoundedWeights>& layers,
                const std::vector<const Variable*>& outputs)
      : layers_(layers),
        outputs_(outputs),
        whole_(quantized, Precision::Simulated),
        exact_(quantized, Precision::Simulated) {
    exact_.set_hook([&](SlotEvent& event) {
      const LinearOperation& linear = layers_[current_].layer;
      if (event.is_output) return;
      if (event.slot == static_cast<int>(linear.weight_slot())) event.value = event.raw;
      if (has_own_bias(linear) && event.slot == static_cast<int>(*linear.bias_slot()))
        event.value = event.raw + layers_[current_].mean.to(event.raw.scalar_type()).reshape(event.raw.sizes());
    });
    const std::vector<const Operation*> order = quantized.topological_order();
    for (const RoundedWeights& layer : layers) behind_.push_back(behind(layer, order));
    for (const Variable* output : outputs) wanted_.place_of(*output);
  }

  void start(const Tensors& inputs) { values_ = whole_.run(inputs, wanted_.list()); }

  Tensors outputs_with_exact(size_t layer) {
    current_ = layer;
    const Operation& operation = layers_[layer].layer.operation();
    const Variable& feed = data_of(layers_[layer].layer);
    const Behind& rest = behind_[layer];
    Tensors values = exact_.compile({&operation}, {&feed}, {operation.output()}).run({values_[wanted_.place_of(feed)]});
    for (size_t i = 1; i < rest.feeds.size(); ++i) values.push_back(values_[wanted_.place_of(*rest.feeds[i])]);
    Tensors changed;
    if (!rest.reached.empty()) changed = whole_.compile(rest.order, rest.feeds, rest.reached).run(values);
    Tensors result;
    for (size_t next = 0; const Variable* output : outputs_) {
      if (next < rest.reached.size() && rest.reached[next] == output)
        result.push_back(changed[next++]);
      else
        result.push_back(output == operation.output() ? values[0] : values_[wanted_.place_of(*output)]);
    }
    return result;
  }

 private:
  /// The operations that a layer's result reaches, what they read of others (that result first), and the outputs of the
  /// network among their results.
  struct Behind {
    std::vector<const Operation*> order = {};
    std::vector<const Variable*> feeds = {}, reached = {};
  };

  Behind behind(const RoundedWeights& layer, const std::vector<const Operation*>& order) {
    const Operation& first = layer.layer.operation();
    Behind result{.feeds = {first.output()}};
    std::unordered_set<const Operation*> changed{&first};
    const auto changes = [&](const Variable* value) {
      return value && value->producer() && changed.count(value->producer());
    };
    for (const Operation* operation : order)
      if (std::any_of(operation->inputs().begin(), operation->inputs().end(), changes)) {
        result.order.push_back(operation);
        changed.insert(operation);
      }
    for (const Operation* operation : result.order)
      for (const Variable* input : operation->inputs()) {
        if (!input || input->is_parameter() || changes(input)) continue;
        if (std::find(result.feeds.begin(), result.feeds.end(), input) != result.feeds.end()) continue;
        result.feeds.push_back(input);
        wanted_.place_of(*input);
      }
    for (const Variable* output : outputs_)
      if (output != first.output() && changes(output)) result.reached.push_back(output);
    wanted_.place_of(data_of(layer.layer));
    return result;
  }

  const std::vector<RoundedWeights>& layers_;
  const std::vector<const Variable*> outputs_;
  Executor whole_, exact_;
  std::vector<Behind> behind_;
  WantedVariables wanted_;
  Tensors values_;  ///< of the current batch
  size_t current_ = 0;
};

}  // namespace

PassReport split_layers(Graph& graph, const std::vector<std::string>& names, const Target& target,
                        const SplitLayersOptions& options) {
  check(options);
  PassReport report{"split_layers"};
  for (const std::string& name : names) {
    const Operation* operation = graph.find_operation(name);
    user_check(operation, "split_layers: the network has no operation '{}'", name);
    const auto linear = linear_operation(*operation);
    user_check(linear.has_value(),
               "split_layers: '{}' ({}) is no Conv, ConvTranspose, Gemm or MatMul with constant weights", name,
               operation->type());
    const at::Tensor weight = linear->weight().detach();
    at::Tensor rest;
    if (options.method == SplitMethod::Balance) {
      rest = half_of_large(weight, options);
    } else {
      const at::Tensor rows = linear->rows_first(weight);
      rest = linear->weight_from((rows - on_grid(*linear, rows, target)).reshape(linear->matrices().sizes()));
    }
    if (rest.count_nonzero().item<int64_t>() == 0) {
      report.note("layer whose weights leave nothing to a second one");
      continue;
    }
    split(graph, *linear, rest.contiguous());
    report.count("layer split", name);
  }
  return report;
}

std::vector<std::string> layers_to_split(const Graph& graph, const SplitLayersOptions& options) {
  check(options);
  return layers_named(graph, options.names, "split_layers");
}

std::unordered_map<std::string, double> shares_of_multiplications(const Graph& graph) {
  std::unordered_map<std::string, double> shares;
  double sum = 0;
  for (const Operation* operation : graph.operations())
    if (const auto linear = linear_operation(*operation)) {
      const double count = multiplications(*linear);
      shares[operation->name()] = count;
      sum += count;
    }
  for (auto& [name, share] : shares) share /= std::max(sum, 1.0);
  return shares;
}

std::vector<std::string> worst_weights(const Graph& quantized, Reference& reference) {
  std::vector<RoundedWeights> layers = rounded_weights(quantized, reference);
  const std::vector<const Variable*> outputs = reference.variables_in(quantized);
  const size_t batches = reference.batches();
  const OneThreadEach one_thread_each;
  std::vector<std::unique_ptr<OneExactLayer>> networks(std::min(one_thread_each.threads(), batches));
  std::vector<std::vector<Reference::Powers>> powers(layers.size(), std::vector<Reference::Powers>(batches));
  std::atomic<size_t> done = 0;
  share_out(batches, networks.size(), [&](size_t batch, size_t thread) {
    if (!networks[thread]) networks[thread] = std::make_unique<OneExactLayer>(quantized, layers, outputs);
    networks[thread]->start(reference.data().inputs(quantized, batch));
    for (size_t i = 0; i < layers.size(); ++i)
      powers[i][batch] = reference.powers(batch, networks[thread]->outputs_with_exact(i));
    report_progress("weights", ++done, batches);
  });
  std::vector<std::pair<double, size_t>> found;
  for (size_t i = 0; i < layers.size(); ++i) found.emplace_back(reference.error(powers[i]), i);
  std::stable_sort(found.begin(), found.end());
  std::vector<std::string> names;
  names.reserve(found.size());
  for (const auto& [noise, i] : found) names.push_back(layers[i].layer.operation().name());
  return names;
}

}  // namespace espq
