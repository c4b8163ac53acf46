#include "passes/quantize/create_slots.h"

#include <ATen/ATen.h>

#include <unordered_set>

#include "core/ops/operator.h"
#include "passes/quantize/slots.h"

namespace espq {

namespace {

/// Attention masks: a constant with infinities (or a boolean one) has no integer grid, nor has a sum with it.
bool carries_infinity(const Variable* variable) {
  if (!variable) return false;
  if (variable->is_parameter()) {
    const at::Tensor& value = variable->value();
    return value.scalar_type() == at::kBool || (value.is_floating_point() && at::isinf(value).any().item<bool>());
  }
  const Operation* producer = variable->producer();
  if (!producer) return false;
  const OperatorDefinition& definition = definition_of(*producer);
  for (size_t slot = 0; slot < producer->inputs().size(); ++slot)
    if (definition.input_spec(slot).role == OperandRole::Mask && carries_infinity(producer->input(slot))) return true;
  return false;
}

bool stays_float(const Variable* variable, OperandRole role) {
  if (!variable || !is_operand_of_arithmetic(role) || role == OperandRole::Float || !is_floating(*variable))
    return true;
  const bool weights = variable->is_parameter() && (role == OperandRole::Weight || role == OperandRole::Bias);
  return !weights && carries_infinity(variable);
}

/// Results of the network, and values that nothing but a Softmax or moves stand between and a result.
std::unordered_set<const Variable*> results_of(const Graph& graph) {
  std::unordered_set<const Variable*> found;
  std::vector<const Variable*> waiting(graph.outputs().begin(), graph.outputs().end());
  while (!waiting.empty()) {
    const Variable* variable = waiting.back();
    waiting.pop_back();
    if (!found.insert(variable).second || !variable->producer()) continue;
    const Operation& producer = *variable->producer();
    const OperatorDefinition& definition = definition_of(producer);
    if ((definition.quantization.passive || definition.ignores_shift) && producer.input(0))
      waiting.push_back(producer.input(0));
  }
  return found;
}

class SlotMaker {
 public:
  SlotMaker(Graph& graph, const Target& target, int main_bits, ObserverTable& observers,
            const CalibrationOptions& options, const Layers& layers, const Quirks& quirks)
      : graph_(graph),
        target_(target),
        main_bits_(main_bits),
        observers_(observers),
        options_(options),
        layers_(graph, layers),
        quirks_(quirks),
        results_(results_of(graph)) {}

  void make(Operation& operation) const {
    std::vector<SlotQuant> inputs, outputs;
    for (size_t i = 0; i < operation.inputs().size(); ++i) inputs.push_back(input_slot(operation, i));
    for (size_t i = 0; i < operation.outputs().size(); ++i) outputs.push_back(output_slot(operation, i));
    operation.set_quant(std::move(inputs), std::move(outputs));
  }

 private:
  SlotQuant new_slot(int bits) const {
    SlotQuant slot;
    slot.state = SlotState::Pending;
    slot.bits = bits;
    slot.scale = graph_.scales().create();
    return slot;
  }

  SlotQuant input_slot(const Operation& operation, size_t index) const {
    const OperatorDefinition& definition = definition_of(operation);
    const OperandRole role = definition.input_spec(index).role;
    const Variable* variable = operation.input(index);
    const Width width = *operation.width();
    const bool constant_weight =
        role == OperandRole::Weight && definition.linear && variable && variable->is_parameter();
    SlotQuant slot = new_slot(constant_weight ? width.weights : width.activations);
    const bool int8 = slot.bits == 8;
    if (stays_float(variable, role)) {
      slot.state = SlotState::Float;
    } else if (role == OperandRole::Bias) {
      slot.state = SlotState::Derived;
      slot.bits = int8 ? target_.bias_bits_int8 : target_.bias_bits_int16;
      slot.channel_axis = target_.per_channel_weights ? 0 : -1;
    } else if (role == OperandRole::Gate) {
      slot.state = SlotState::Derived;
      slot.bits = 16;
    } else if (variable->is_parameter()) {
      const bool per_channel = constant_weight && definition.linear->row_exponents && target_.per_channel_weights;
      if (per_channel) slot.channel_axis = definition.linear->row_axis(operation);
      observers_.set(slot, per_channel ? Observer::MinMax : parameter_observer(operation, int8));
    } else {
      observers_.set(slot, activation_observer(operation, int8));
    }
    return slot;
  }

  SlotQuant output_slot(const Operation& operation, size_t index) const {
    const OperatorDefinition& definition = definition_of(operation);
    SlotQuant slot = new_slot(operation.width()->activations);
    const bool own = layers_.of(operation).observer.has_value();
    const bool is_result =
        options_.result_observer && !own && slot.bits == 8 && results_.count(operation.output(index));
    if (is_result)
      observers_.set_result(slot, *options_.result_observer);
    else
      observers_.set(slot, activation_observer(operation, slot.bits == 8));
    if (definition.quantization.float_output || !operation.output(index) || !is_floating(*operation.output(index))) {
      slot.state = SlotState::Float;
    } else if (definition.output_spec(index).role == OperandRole::Gate) {
      slot.state = SlotState::Derived;
      slot.bits = 16;
    }
    return slot;
  }

  Observer activation_observer(const Operation& operation, bool int8) const {
    if (const auto own = layers_.of(operation).observer) return *own;
    if (quirks_.observers_by_main_width) int8 = main_bits_ == 8;
    return int8 ? options_.observer : options_.observer_int16;
  }

  Observer parameter_observer(const Operation& operation, bool int8) const {
    if (const auto own = layers_.of(operation).parameter_observer) return *own;
    return int8 ? options_.parameter_observer : options_.parameter_observer_int16;
  }

  Graph& graph_;
  const Target& target_;
  int main_bits_;
  ObserverTable& observers_;
  const CalibrationOptions& options_;
  LayerTable layers_;
  const Quirks& quirks_;
  std::unordered_set<const Variable*> results_;
};

}  // namespace

PassReport create_slots(Graph& graph, const Target& target, int main_bits, ObserverTable& observers,
                        const CalibrationOptions& options, const Layers& layers, const Quirks& quirks) {
  graph.set_target(&target);
  graph.set_stage(Stage::Quantized);
  const SlotMaker maker(graph, target, main_bits, observers, options, layers, quirks);
  PassReport report{"create_slots"};
  for (Operation* operation : graph.operations()) {
    if (operation->width()->is_float()) continue;
    maker.make(*operation);
    report.count("operation");
    report.count("slot", static_cast<int64_t>(operation->input_quant().size() + operation->output_quant().size()));
  }
  return report;
}

}  // namespace espq
