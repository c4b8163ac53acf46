#include "passes/quantize/fit_accumulators.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/exec/executor.h"
#include "core/ops/board/accumulator.h"
#include "core/ops/linear.h"
#include "core/quant/fake_quantize.h"
#include "core/support/error.h"
#include "passes/quantize/slots.h"

namespace espq {
namespace {

constexpr int kMostBits = 6;  // a layer that needs more has no weights left

/// Results that differ between the chip's lanes and lanes that are wide enough.
struct Loss {
  int64_t wrong = 0, total = 0, largest = 0;
};

/// One layer with constant weights, as the chip's kernel sees it.
class Layer {
 public:
  Layer(Graph& graph, const LinearOperation& linear)
      : graph_(graph), linear_(linear), operation_(linear.operation(graph)) {}

  std::vector<at::Tensor> inputs;  ///< codes

  /// False when no input at all can saturate.
  bool at_risk() const {
    const AccumulatorRule rule = accumulator_rule(*graph_.target(), 8, linear_.rows(), linear_.groups() > 1);
    const at::Tensor filters = linear_.rows_first(codes(linear_.weight_slot()));
    return !channels_at_risk(rule, filters, bias_codes(), -quant_min(8)).empty();
  }

  /// False when no sum of inputs within the range of the recorded ones can saturate: cheaper than what tells how many.
  bool may_lose() const {
    const AccumulatorRule rule = accumulator_rule(*graph_.target(), 8, linear_.rows(), linear_.groups() > 1);
    const OverflowFilter filter(rule, linear_.rows_first(codes(linear_.weight_slot())), bias_codes());
    const auto possible = [&](const at::Tensor& codes) {
      const CodeRange range = code_range(codes);
      return filter.possible(range) && filter.possible(range, largest_energy(codes));
    };
    return std::any_of(inputs.begin(), inputs.end(), possible);
  }

  Loss loss() const {
    Target wide = *graph_.target();
    wide.saturating_20bit = false;
    const BoardKernel chip = kernel(*graph_.target()), exact = kernel(wide);
    Loss result;
    for (const at::Tensor& codes : inputs) {
      const at::Tensor difference = (chip({codes})[0] - exact({codes})[0]).abs();
      result.wrong += difference.gt(0).sum().item<int64_t>();
      result.total += difference.numel();
      result.largest = std::max(result.largest, static_cast<int64_t>(difference.max().item<double>()));
    }
    return result;
  }

  void change_weight_exponent(int bits) {
    change_exponent(linear_.weight_slot(), bits);
    if (linear_.bias_variable()) change_exponent(*linear_.bias_slot(), bits);
  }

  const Operation& operation() const { return operation_; }

 private:
  /// No sum of squares under one output position is larger.
  double largest_energy(const at::Tensor& codes) const {
    const auto positions = static_cast<double>(linear_.columns() * linear_.groups() / linear_.input_channels());
    return positions * codes.square().sum(linear_.rule().channel_axis).max().item<double>();
  }

  Grid grid(const SlotQuant& slot) const { return {slot.bits, slot_exponents(graph_, slot)}; }

  void change_exponent(size_t slot, int bits) {
    std::vector<int> exponents = slot_exponents(graph_, operation_.input_quant()[slot]);
    for (int& exponent : exponents) exponent += bits;
    graph_.scales().set_exponents(operation_.input_quant()[slot].scale, std::move(exponents));
  }

  at::Tensor codes(size_t slot) const {
    const SlotQuant& quant = operation_.input_quant()[slot];
    // Biases of 20 bits and more are held in float64, as the kernels expect them.
    const at::Tensor value = operation_.input(slot)->value().to(quant.bits > 16 ? at::kDouble : at::kFloat);
    return quantize_to_codes(value, slot_exponents(graph_, quant), quant.channel_axis, quant.bits,
                             graph_.target()->rounding);
  }

  /// As in chip graphs.
  at::Tensor weight_codes() const {
    const at::Tensor weight = codes(linear_.weight_slot());
    return linear_.rule().packing == WeightPacking::Matrix ? weight : linear_.rows_first(weight).contiguous();
  }

  at::Tensor bias_codes() const { return linear_.bias_variable() ? codes(*linear_.bias_slot()) : at::Tensor(); }

  BoardKernel kernel(const Target& target) const {
    BoardContext context{operation_, target, {}, {grid(operation_.output_quant()[0])}, {at::Tensor(), weight_codes()},
                         {}};
    for (const SlotQuant& slot : operation_.input_quant()) context.inputs.push_back(grid(slot));
    if (linear_.bias_variable()) context.parameters.push_back(bias_codes());
    return definition_of(operation_).chip.board(context);
  }

  Graph& graph_;
  LinearOperation linear_;
  Operation& operation_;
};

std::optional<LinearOperation> candidate(const Graph& graph, const Operation& operation) {
  if (!operation.quantized() || operation.width() != Width::Int8) return std::nullopt;
  const auto linear = linear_operation(operation);
  if (!linear || !definition_of(operation).chip.board) return std::nullopt;
  const SlotQuant &input = operation.input_quant()[0], &weight = operation.input_quant()[linear->weight_slot()];
  const bool ready = input.bits == 8 && weight.bits == 8 && has_exponents(graph, input) &&
                     has_exponents(graph, weight) && has_exponents(graph, operation.output_quant()[0]);
  return ready ? linear : std::nullopt;
}

void record_inputs(Graph& graph, const Dataset& dataset, int64_t batches, std::vector<Layer>& layers) {
  std::unordered_map<const Operation*, Layer*> by_operation;
  for (Layer& layer : layers) by_operation.emplace(&layer.operation(), &layer);
  Executor executor(graph, Precision::Simulated);
  executor.set_hook([&](SlotEvent& event) {
    if (event.is_output || event.slot != 0) return;
    const auto found = by_operation.find(&event.operation);
    if (found == by_operation.end()) return;
    const SlotQuant& slot = event.operation.input_quant()[0];
    found->second->inputs.push_back(
        quantize_to_codes(event.value, slot_exponents(graph, slot), -1, slot.bits, graph.target()->rounding));
  });
  const auto steps = std::min(batches, static_cast<int64_t>(dataset.size()));
  for (int64_t step = 0; step < steps; ++step) executor.run(dataset.inputs(graph, static_cast<size_t>(step)));
}

void warn(const Layer& layer, const Loss& loss, PassReport& report) {
  report.warnings.push_back(
      fmt::format("'{}': sums leave the 20-bit accumulators of the chip: {} of {} results on the calibration data are "
                  "off, by up to "
                  "{} steps; a smaller range of inputs or weights, or 16 bits for this operation, avoids it",
                  layer.operation().name(), loss.wrong, loss.total, loss.largest));
}

void fit(Layer& layer, const AccumulatorOptions& options, PassReport& report) {
  if (!layer.may_lose()) return;
  const Loss before = layer.loss();
  if (before.wrong == 0) return;
  if (!options.fit) return warn(layer, before, report);
  for (int bits = 1; bits <= kMostBits; ++bits) {
    layer.change_weight_exponent(1);
    if (layer.loss().wrong > 0) continue;
    report.count("bit of weights given up to stay within 20-bit sums", layer.operation().name(), bits);
    return;
  }
  layer.change_weight_exponent(-kMostBits);
  warn(layer, before, report);
}

}  // namespace

PassReport fit_accumulators(Graph& graph, const Dataset& dataset, const AccumulatorOptions& options) {
  user_check(options.batches > 0, "accumulators.batches: {} batches cannot be looked at; null switches the pass off",
             options.batches);
  PassReport report{"fit_accumulators"};
  if (!graph.target()->saturating_20bit) return report;
  std::vector<Layer> layers;
  for (const Operation* operation : graph.operations())
    if (const auto linear = candidate(graph, *operation); linear && Layer(graph, *linear).at_risk())
      layers.emplace_back(graph, *linear);
  if (layers.empty()) return report;
  record_inputs(graph, dataset, options.batches, layers);
  for (Layer& layer : layers) fit(layer, options, report);
  return report;
}

}  // namespace espq
