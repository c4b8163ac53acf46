#pragma once
#include <string>

#include "core/graph/graph.h"

namespace espq::lowering {

/// True when the slot gives its tensor a format in the file.
bool has_format(const Graph& graph, const SlotQuant& slot);
/// The slot that writes the variable; nullptr for graph inputs, constants and operations without quantization.
const SlotQuant* writing_slot(const Variable& variable);
/// The slot that reads it there; nullptr for operations without quantization.
const SlotQuant* reading_slot(const Use& use);

/// True for constants and omitted operands.
inline bool is_constant(const Variable* variable) { return !variable || variable->is_parameter(); }

/// A new operation in front of one operand that works on the operand's grid: it takes the reader's width and slot.
Operation& insert_on_grid(Graph& graph, Operation& reader, size_t slot, std::string type, AttributeMap attributes);

}  // namespace espq::lowering
