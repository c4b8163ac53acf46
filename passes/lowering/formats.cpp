#include "passes/lowering/formats.h"

namespace espq::lowering {

bool has_format(const Graph& graph, const SlotQuant& slot) {
  const bool final_state = slot.state == SlotState::Quantizes || slot.state == SlotState::QuantizesShared ||
                           slot.state == SlotState::Carries;
  return final_state && slot.scale != kNoScale && !slot_exponents(graph, slot).empty();
}

const SlotQuant* writing_slot(const Variable& variable) {
  const Operation* producer = variable.producer();
  return producer && producer->quantized() ? &producer->output_quant().at(variable.producer_slot()) : nullptr;
}

const SlotQuant* reading_slot(const Use& use) {
  return use.operation->quantized() ? &use.operation->input_quant().at(use.slot) : nullptr;
}

Operation& insert_on_grid(Graph& graph, Operation& reader, size_t slot, std::string type, AttributeMap attributes) {
  Operation& operation = graph.insert_before(reader, slot, std::move(type), {}, std::move(attributes));
  operation.set_width(reader.width().value().without_weights());
  if (reader.quantized()) operation.set_quant({reader.input_quant().at(slot)}, {reader.input_quant().at(slot)});
  return operation;
}

}  // namespace espq::lowering
