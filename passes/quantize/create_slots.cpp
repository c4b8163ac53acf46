#include "passes/quantize/create_slots.h"

#include <ATen/ATen.h>

#include "core/ops/operator.h"
#include "passes/quantize/slots.h"

namespace espq {

const std::vector<std::pair<Observer, std::string_view>> EnumNames<Observer>::values = {
    {Observer::MinMax, "minmax"},
    {Observer::Percentile, "percentile"},
    {Observer::KlDivergence, "kl"},
    {Observer::MeanSquaredError, "mse"}};

namespace {

bool contains(const std::vector<int>& list, int value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

/// Attention masks: a constant with infinities (or a boolean one) has no integer grid, nor has a sum with it.
bool carries_infinity(const Variable* variable) {
  if (!variable) return false;
  if (variable->is_parameter()) {
    const at::Tensor& value = variable->value();
    return value.scalar_type() == at::kBool || (value.is_floating_point() && at::isinf(value).any().item<bool>());
  }
  const Operation* producer = variable->producer();
  if (!producer) return false;
  for (int slot : definition_of(*producer).quantization.mask_operands)
    if (carries_infinity(producer->input(slot))) return true;
  return false;
}

class SlotMaker {
 public:
  SlotMaker(Graph& graph, const Target& target, int main_bits, const ObserverChoice& observers)
      : graph_(graph), target_(target), main_bits_(main_bits), observers_(observers) {}

  void make(Operation& operation) const {
    const QuantizationRule& rule = definition_of(operation).quantization;
    std::vector<SlotQuant> inputs, outputs;
    for (size_t i = 0; i < operation.inputs().size(); ++i)
      inputs.push_back(input_slot(operation, rule, static_cast<int>(i)));
    for (size_t i = 0; i < operation.outputs().size(); ++i)
      outputs.push_back(output_slot(operation, rule, static_cast<int>(i)));
    operation.set_quant(std::move(inputs), std::move(outputs));
  }

 private:
  SlotQuant new_slot(const Operation& operation) const {
    SlotQuant slot;
    slot.state = SlotState::Pending;
    slot.bits = width_bits(*operation.width());
    slot.scale = graph_.scales().create();
    return slot;
  }

  SlotQuant input_slot(const Operation& operation, const QuantizationRule& rule, int index) const {
    const OperandSpec& spec = definition_of(operation).input_spec(index);
    const Variable* variable = operation.input(index);
    SlotQuant slot = new_slot(operation);
    const bool int8 = slot.bits == 8;
    const bool weight = variable && rule.computing && variable->is_parameter();
    if (!variable || spec.role != OperandRole::Data || contains(rule.float_operands, index) ||
        !is_floating(*variable) || (!weight && carries_infinity(variable))) {
      slot.state = SlotState::Float;
    } else if (rule.bias && index == 2) {
      slot.state = SlotState::Derived;
      slot.bits = int8 ? target_.bias_bits_int8 : target_.bias_bits_int16;
      slot.channel_axis = target_.per_channel_weights ? 0 : -1;
    } else if (contains(rule.gate_operands, index)) {
      slot.state = SlotState::Derived;
      slot.bits = 16;
    } else if (variable->is_parameter()) {
      slot.observer = parameter_observer(operation, int8);
      if (index == 1 && rule.weight_channel_axis && target_.per_channel_weights) {
        slot.channel_axis = rule.weight_channel_axis(operation);
        slot.observer = Observer::MinMax;
      }
    } else {
      slot.observer = activation_observer(operation, int8);
    }
    return slot;
  }

  SlotQuant output_slot(const Operation& operation, const QuantizationRule& rule, int index) const {
    SlotQuant slot = new_slot(operation);
    slot.observer = activation_observer(operation, slot.bits == 8);
    if (rule.float_output || !operation.output(index) || !is_floating(*operation.output(index))) {
      slot.state = SlotState::Float;
    } else if (contains(rule.gate_outputs, index)) {
      slot.state = SlotState::Derived;
      slot.bits = 16;
    }
    return slot;
  }

  Observer activation_observer(const Operation& operation, bool int8) const {
    const auto own = observers_.activations_of.find(operation.name());
    if (own != observers_.activations_of.end()) return own->second;
    if (observers_.by_main_width) int8 = main_bits_ == 8;
    return int8 ? observers_.activations_int8 : observers_.activations_int16;
  }

  Observer parameter_observer(const Operation& operation, bool int8) const {
    const auto own = observers_.parameters_of.find(operation.name());
    if (own != observers_.parameters_of.end()) return own->second;
    return int8 ? observers_.parameters_int8 : observers_.parameters_int16;
  }

  Graph& graph_;
  const Target& target_;
  int main_bits_;
  const ObserverChoice& observers_;
};

void check_names(const Graph& graph, const std::map<std::string, Observer>& choices, std::string_view field) {
  for (const auto& [name, observer] : choices)
    user_check(graph.find_operation(name) != nullptr, "observers.{}: the simplified network has no operation '{}'",
               field, name);
}

}  // namespace

PassReport create_slots(Graph& graph, const Target& target, int main_bits, const ObserverChoice& observers) {
  check_names(graph, observers.activations_of, "activations_of");
  check_names(graph, observers.parameters_of, "parameters_of");
  graph.set_target(&target);
  const SlotMaker maker(graph, target, main_bits, observers);
  PassReport report{"create_slots"};
  for (Operation* operation : graph.operations()) {
    if (operation->width() == OperationWidth::Float) continue;
    maker.make(*operation);
    report.count("operation");
    report.count("slot", static_cast<int64_t>(operation->input_quant().size() + operation->output_quant().size()));
  }
  return report;
}

}  // namespace espq
