#include "passes/optimize/split_layers.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/graph/edit.h"
#include "core/ops/limits.h"
#include "core/ops/linear.h"
#include "core/quant/fake_quantize.h"
#include "core/quant/scheme.h"
#include "core/support/error.h"
#include "core/support/text.h"
#include "passes/optimize/option_checks.h"
#include "passes/optimize/projected_errors.h"
#include "passes/quantize/layers.h"
#include "passes/quantize/observer.h"

namespace espq {

const std::vector<std::pair<SplitMethod, std::string_view>> EnumNames<SplitMethod>::values = {
    {SplitMethod::Remainder, "remainder"}, {SplitMethod::Balance, "balance"}};

namespace {

constexpr int kBits = 8;        // of weights that have too few
constexpr int64_t kProbes = 4;  // of every batch

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
  return elements(operation.input(0)) * static_cast<double>(linear.rows() / linear.groups() * kernel);
}

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
  std::vector<std::string> found, known;
  for (const Operation* operation : graph.topological_order())
    if (linear_operation(*operation)) known.push_back(operation->name());
  for (const std::string& pattern : options.names) {
    const size_t before = found.size();
    for (const std::string& name : known)
      if (matches(pattern, name) && std::find(found.begin(), found.end(), name) == found.end()) found.push_back(name);
    user_check(found.size() > before,
               "split_layers.names: no layer with constant weights is called '{}'; did you mean '{}'?", pattern,
               nearest_name(pattern, known));
  }
  return found;
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
  std::vector<RoundingPart> parts = parts_of(quantized);
  const size_t others = parts.size();
  for (const Operation* operation : quantized.topological_order())
    if (operation->quantized() && linear_operation(*operation))
      parts.push_back({.operations = {operation}, .weights_alone = true});
  const at::Tensor errors = projected_errors(quantized, parts, reference, kProbes);
  const at::Tensor all = errors.slice(1, 0, static_cast<int64_t>(others)).sum(1);
  std::vector<std::pair<double, std::string>> found;
  for (size_t part = others; part < parts.size(); ++part) {
    const at::Tensor rest = all - errors.select(1, static_cast<int64_t>(part));
    found.emplace_back(rest.square().sum().item<double>(), parts[part].operations.front()->name());
  }
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::string> names;
  for (auto& [noise, name] : found) names.push_back(std::move(name));
  return names;
}

}  // namespace espq
