#include "passes/quantize/derive_exponents.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/ops/operator.h"
#include "core/support/error.h"
#include "passes/quantize/slots.h"

namespace espq {
namespace {

constexpr int kGateExponent = -9;  // chip library 3.3.9: inner values of GRU and LSTM are int16 * 2^-9
constexpr int kLargestShift = 31;  // of a 32-bit accumulator lane

class Deriver {
 public:
  Deriver(Graph& graph, const DeriveOptions& options) : graph_(graph), options_(options), slots_(graph) {}

  PassReport run() {
    const std::vector<Operation*> order = graph_.topological_order();
    // An output that is raised may be the input of an earlier operation's group: until nothing moves any more.
    for (raised_ = true; raised_;) {
      raised_ = false;
      for (Operation* operation : order)
        if (operation->quantized() && definition_of(*operation).quantization.product) fit(*operation);
    }
    for (Operation* operation : order) {
      if (!operation->quantized()) continue;
      const QuantizationRule& rule = definition_of(*operation).quantization;
      if (rule.bias && operation->input(2)) derive_bias(*operation);
      for (size_t slot : rule.gate_operands)
        if (slot < operation->input_quant().size()) derive_gate(operation->edit_input_quant(slot));
      for (size_t slot : rule.gate_outputs)
        if (slot < operation->output_quant().size()) derive_gate(operation->edit_output_quant(slot));
      derive_followers(*operation);
    }
    return report_;
  }

 private:
  /// Before the bias: makes room for it, and for the shift from the accumulator to the output.
  void fit(Operation& operation) {
    SlotQuant& weight = operation.edit_input_quant(1);
    const SlotQuant& input = operation.input_quant()[0];
    SlotQuant& output = operation.edit_output_quant(0);
    if (!has_exponents(graph_, input) || !has_exponents(graph_, output) || !has_exponents(graph_, weight)) return;
    const int input_exponent = slot_exponents(graph_, input)[0];
    std::vector<int> exponents = slot_exponents(graph_, weight);
    const bool weights = definition_of(operation).quantization.computing && operation.input(1)->is_parameter();
    if (options_.fit_bias && weights && raise_weights(operation, input_exponent, exponents)) {
      graph_.scales().set_exponents(weight.scale, exponents);
      raised_ = true;
    }
    if (!options_.fit_shift) return;
    const int finest = input_exponent + *std::max_element(exponents.begin(), exponents.end());
    if (slot_exponents(graph_, output)[0] >= finest) return;
    graph_.scales().set_exponents(output.scale, {finest});
    raised_ = true;
    report_.count(fmt::format("output of '{}' coarsened to the product grid", operation.name()));
  }

  bool raise_weights(const Operation& operation, int input_exponent, std::vector<int>& exponents) {
    const int output_exponent = slot_exponents(graph_, operation.output_quant()[0])[0];
    std::vector<int> needed(exponents.size(), std::numeric_limits<int>::min());
    if (operation.output_quant()[0].bits == 8)
      for (int& exponent : needed) exponent = output_exponent - input_exponent - kLargestShift;
    if (definition_of(operation).quantization.bias && operation.input(2) && operation.input(2)->is_parameter())
      need_room_for_bias(operation, input_exponent, needed);
    bool raised = false;
    for (size_t channel = 0; channel < exponents.size(); ++channel) {
      if (exponents[channel] >= needed[channel]) continue;
      exponents[channel] = needed[channel];
      raised = true;
      report_.count(fmt::format("weight channel of '{}' coarsened for bias or shift", operation.name()));
    }
    return raised;
  }

  void need_room_for_bias(const Operation& operation, int input_exponent, std::vector<int>& needed) const {
    const at::Tensor bias = operation.input(2)->value().to(at::kCPU, at::kDouble).abs().flatten().contiguous();
    const double largest_code = quant_max(operation.input_quant()[2].bits);
    for (int64_t channel = 0; channel < bias.numel(); ++channel) {
      const double magnitude = bias.const_data_ptr<double>()[channel];
      if (magnitude == 0) continue;
      int& exponent = needed[needed.size() == 1 ? 0 : static_cast<size_t>(channel)];
      const int fits = static_cast<int>(std::ceil(std::log2(magnitude / largest_code)));
      exponent = std::max(exponent, fits - input_exponent);
    }
  }

  void derive_bias(Operation& operation) {
    SlotQuant& slot = operation.edit_input_quant(2);
    if (slot.state != SlotState::Derived && slot.state != SlotState::QuantizesShared) return;
    Variable& bias = *operation.input(2);
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
    check_fit(operation, exponents);
    graph_.scales().set_exponents(slot.scale, std::move(exponents));
    slot.state = SlotState::QuantizesShared;
    report_.count("bias");
  }

  void check_fit(const Operation& operation, const std::vector<int>& exponents) {
    const at::Tensor bias = operation.input(2)->value().to(at::kCPU, at::kDouble).contiguous();
    const double largest = quant_max(operation.input_quant()[2].bits);
    for (int64_t channel = 0; channel < bias.numel(); ++channel) {
      const int exponent = exponents[exponents.size() == 1 ? 0 : static_cast<size_t>(channel)];
      if (std::ldexp(std::fabs(bias.const_data_ptr<double>()[channel]), -exponent) <= largest) continue;
      report_.warnings.push_back(fmt::format("'{}': a bias value does not fit {} bits and saturates", operation.name(),
                                             operation.input_quant()[2].bits));
      return;
    }
  }

  void derive_gate(SlotQuant& slot) {
    if (slot.state != SlotState::Derived && slot.state != SlotState::QuantizesShared) return;
    graph_.scales().set_exponents(slot.scale, {kGateExponent});
    slot.state = SlotState::QuantizesShared;
    report_.count("inner state");
  }

  void derive_followers(Operation& operation) {
    const OperatorDefinition& definition = definition_of(operation);
    for (size_t i = 1; i < operation.input_quant().size(); ++i) {
      const OperandSpec& spec = definition.input_spec(i);
      if (spec.role != OperandRole::Follows || !operation.input(i)) continue;
      SlotQuant &operand = operation.edit_input_quant(i), &grid = operation.edit_input_quant(0);
      user_check(has_exponents(graph_, grid), "operation '{}': its {} cannot be quantized because its input is float",
                 operation.name(), spec.name);
      slots_.follow(operand, grid);
      operand.exported = operation.type() == "Pad" ? options_.export_pad_value : options_.export_clip_bounds;
      report_.count("bound or pad value");
    }
  }

  Graph& graph_;
  const DeriveOptions& options_;
  SlotTable slots_;
  bool raised_ = false;
  PassReport report_{"derive_exponents"};
};

}  // namespace

PassReport derive_exponents(Graph& graph, const DeriveOptions& options) { return Deriver(graph, options).run(); }

}  // namespace espq
