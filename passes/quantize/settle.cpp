#include "passes/quantize/settle.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/ops/operator.h"
#include "core/support/error.h"
#include "passes/quantize/slots.h"

namespace espq {
namespace {

constexpr int kLargestShift = 31;  // of a 32-bit accumulator lane

class Settler {
 public:
  Settler(Graph& graph, const Quirks& quirks) : graph_(graph), quirks_(quirks), slots_(graph) {}

  PassReport run() {
    const std::vector<Operation*> order = graph_.topological_order();
    // An output that is raised may be the input of an earlier operation's group: until nothing moves any more.
    for (raised_ = true; raised_;) {
      raised_ = false;
      for (Operation* operation : order)
        if (operation->quantized() && definition_of(*operation).shifts_products()) fit(*operation);
    }
    for (Operation* operation : order) {
      if (!operation->quantized()) continue;
      derive_operands(*operation);
    }
    return report_;
  }

 private:
  void derive_operands(Operation& operation) {
    const OperatorDefinition& definition = definition_of(operation);
    if (const auto slot = bias_slot(operation)) derive_bias(operation, *slot);
    for (size_t slot = 0; slot < operation.input_quant().size(); ++slot)
      if (definition.input_spec(slot).role == OperandRole::Gate) derive_gate(operation.edit_input_quant(slot));
    for (size_t slot = 0; slot < operation.output_quant().size(); ++slot)
      if (definition.output_spec(slot).role == OperandRole::Gate) derive_gate(operation.edit_output_quant(slot));
    derive_followers(operation);
  }

  /// nullopt where the operation has none.
  static std::optional<size_t> bias_slot(const Operation& operation) {
    const auto slot = definition_of(operation).input_slot(OperandRole::Bias);
    return slot && operation.input(*slot) ? slot : std::nullopt;
  }

  /// Before the bias: makes room for it, and for the shift from the accumulator to the output.
  void fit(Operation& operation) {
    SlotQuant& weight = operation.edit_input_quant(1);
    const SlotQuant& input = operation.input_quant()[0];
    SlotQuant& output = operation.edit_output_quant(0);
    if (!has_exponents(graph_, input) || !has_exponents(graph_, output) || !has_exponents(graph_, weight)) return;
    const int input_exponent = slot_exponents(graph_, input)[0];
    std::vector<int> exponents = slot_exponents(graph_, weight);
    const bool weights = definition_of(operation).linear && operation.input(1)->is_parameter();
    if (!quirks_.bias_saturates && weights && raise_weights(operation, input_exponent, exponents)) {
      graph_.scales().set_exponents(weight.scale, exponents);
      raised_ = true;
    }
    if (quirks_.shifts_left) return;
    const int finest = input_exponent + *std::max_element(exponents.begin(), exponents.end());
    if (slot_exponents(graph_, output)[0] >= finest) return;
    graph_.scales().set_exponents(output.scale, {finest});
    raised_ = true;
    report_.count("output coarsened to the product grid", operation.name());
  }

  bool raise_weights(const Operation& operation, int input_exponent, std::vector<int>& exponents) {
    const int output_exponent = slot_exponents(graph_, operation.output_quant()[0])[0];
    std::vector<int> needed(exponents.size(), std::numeric_limits<int>::min());
    if (operation.output_quant()[0].bits == 8)
      for (int& exponent : needed) exponent = output_exponent - input_exponent - kLargestShift;
    if (const auto slot = bias_slot(operation); slot && operation.input(*slot)->is_parameter())
      need_room_for_bias(operation, *slot, input_exponent, needed);
    bool raised = false;
    for (size_t channel = 0; channel < exponents.size(); ++channel) {
      if (exponents[channel] >= needed[channel]) continue;
      exponents[channel] = needed[channel];
      raised = true;
      report_.count("weight channel coarsened for bias or shift", operation.name());
    }
    return raised;
  }

  void need_room_for_bias(const Operation& operation, size_t slot, int input_exponent, std::vector<int>& needed) const {
    const at::Tensor bias = operation.input(slot)->value().to(at::kCPU, at::kDouble).abs().flatten().contiguous();
    const double largest_code = quant_max(operation.input_quant()[slot].bits);
    const auto* magnitudes = bias.const_data_ptr<double>();
    for (int64_t channel = 0; channel < bias.numel(); ++channel) {
      const double magnitude = magnitudes[channel];
      if (magnitude == 0) continue;
      int& exponent = needed[needed.size() == 1 ? 0 : static_cast<size_t>(channel)];
      const int fits = static_cast<int>(std::ceil(std::log2(magnitude / largest_code)));
      exponent = std::max(exponent, fits - input_exponent);
    }
  }

  void derive_bias(Operation& operation, size_t bias_slot) {
    SlotQuant& slot = operation.edit_input_quant(bias_slot);
    if (slot.state != SlotState::Derived && slot.state != SlotState::QuantizesShared) return;
    Variable& bias = *operation.input(bias_slot);
    user_check(bias.is_parameter(), "operation '{}': its bias '{}' must be a constant", operation.name(), bias.name());
    user_check(bias.value().numel() == 1 || bias.value().numel() == bias.value().size(-1),
               "operation '{}': its bias '{}' must have one dimension larger than 1", operation.name(), bias.name());
    if (bias.value().dim() != 1) {
      bias.set_value(bias.value().reshape({-1}));
    }
    const SlotQuant &input = operation.input_quant()[0], &weight = operation.input_quant()[1];
    user_check(has_exponents(graph_, input) && has_exponents(graph_, weight),
               "operation '{}': its bias cannot be quantized because its input or weight stays in float; dispatch the "
               "whole operation to float",
               operation.name());
    const int input_exponent = slot_exponents(graph_, input)[0];
    std::vector<int> exponents = slot_exponents(graph_, weight);
    for (int& exponent : exponents) exponent += input_exponent;
    check_fit(operation, bias_slot, exponents);
    report_.count("bias", operation.name(), slots_.round_to(slot, std::move(exponents)));
  }

  void check_fit(const Operation& operation, size_t slot, const std::vector<int>& exponents) {
    const at::Tensor bias = operation.input(slot)->value().to(at::kCPU, at::kDouble).contiguous();
    const double largest = quant_max(operation.input_quant()[slot].bits);
    const auto* values = bias.const_data_ptr<double>();
    // Asked in every step of training, where most fit even the finest grid.
    const double surely = std::ldexp(largest, *std::min_element(exponents.begin(), exponents.end()));
    const auto fits = [&](double value) { return std::fabs(value) <= surely; };
    if (std::all_of(values, values + bias.numel(), fits)) return;
    for (int64_t channel = 0; channel < bias.numel(); ++channel) {
      const int exponent = exponents[exponents.size() == 1 ? 0 : static_cast<size_t>(channel)];
      if (std::ldexp(std::fabs(values[channel]), -exponent) <= largest) continue;
      report_.warnings.push_back(fmt::format("'{}': a bias value does not fit {} bits and saturates", operation.name(),
                                             operation.input_quant()[slot].bits));
      return;
    }
  }

  void derive_gate(SlotQuant& slot) {
    if (slot.state != SlotState::Derived && slot.state != SlotState::QuantizesShared) return;
    report_.count("inner state", slots_.round_to(slot, {kGateExponent}));
  }

  void derive_followers(Operation& operation) {
    const OperatorDefinition& definition = definition_of(operation);
    for (size_t i = 1; i < operation.input_quant().size(); ++i) {
      const OperandSpec& spec = definition.input_spec(i);
      if (spec.role != OperandRole::Follows || !operation.input(i)) continue;
      SlotQuant &operand = operation.edit_input_quant(i), &grid = operation.edit_input_quant(0);
      user_check(has_exponents(graph_, grid), "operation '{}': its {} cannot be quantized because its input is float",
                 operation.name(), spec.name);
      report_.count("bound or pad value", operation.name(), slots_.follow(operand, grid));
    }
  }

  Graph& graph_;
  const Quirks& quirks_;
  SlotTable slots_;
  bool raised_ = false;
  PassReport report_{"settle"};
};

}  // namespace

PassReport settle(Graph& graph, const Quirks& quirks) { return Settler(graph, quirks).run(); }

}  // namespace espq
