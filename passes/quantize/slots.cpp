#include "passes/quantize/slots.h"

namespace espq {

SlotTable::SlotTable(Graph& graph) : graph_(graph), slots_(graph.scales().size(), nullptr) {
  for_each_slot(graph, [&](Operation&, SlotQuant& slot, Variable*, int, bool) { slots_[slot.scale] = &slot; });
}

void SlotTable::carry(SlotQuant& slot, SlotQuant& owner) {
  ScaleForest& scales = graph_.scales();
  if (scales.root(slot.scale) == scales.root(owner.scale)) return;
  root_of(slot).state = SlotState::Carries;
  slot.state = SlotState::Carries;
  scales.merge(slot.scale, owner.scale);
}

bool SlotTable::follow(SlotQuant& slot, SlotQuant& master) {
  const SlotState state = has_exponents(graph_, master) ? SlotState::QuantizesShared : SlotState::Derived;
  const bool followed = slot.state == state && graph_.scales().root(slot.scale) == graph_.scales().root(master.scale);
  graph_.scales().attach(slot.scale, master.scale);
  slot.state = state;
  return !followed;
}

bool SlotTable::round_to(SlotQuant& slot, std::vector<int> exponents) {
  if (slot.state == SlotState::QuantizesShared && slot_exponents(graph_, slot) == exponents) return false;
  graph_.scales().set_exponents(slot.scale, std::move(exponents));
  slot.state = SlotState::QuantizesShared;
  return true;
}

void for_each_slot(Graph& graph,
                   const std::function<void(Operation&, SlotQuant&, Variable*, int slot, bool is_output)>& visit) {
  for (Operation* operation : graph.operations()) {
    if (!operation->quantized()) continue;
    for (size_t i = 0; i < operation->input_quant().size(); ++i)
      visit(*operation, operation->edit_input_quant(i), operation->input(i), static_cast<int>(i), false);
    for (size_t i = 0; i < operation->output_quant().size(); ++i)
      visit(*operation, operation->edit_output_quant(i), operation->output(i), static_cast<int>(i), true);
  }
}

bool is_floating(const Variable& variable) {
  return at::isFloatingType(variable.is_parameter() ? variable.value().scalar_type() : variable.dtype());
}

}  // namespace espq
