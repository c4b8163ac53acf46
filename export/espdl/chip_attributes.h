#pragma once
#include <optional>
#include <string_view>

#include "core/graph/graph.h"

namespace espq {

/// The attributes that a file gives the operation: those of its operator that the model stated, and its ChipFacts.
AttributeMap file_attributes(const Operation& operation);

/// The way back: takes the facts of a new operation from the attributes of its node, which are then complete. A table
/// is looked up in the graph. Throws UserError naming the node: unknown words and attributes, tables that are missing.
void set_file_attributes(Graph& graph, Operation& operation, AttributeMap attributes);

/// Which kernels run a node, as its attribute `quant_type` says it ("S8", "S16", "W8A16", "F32"). nullopt for unknown
/// words.
std::optional<Width> parse_kernels(std::string_view quant_type);

}  // namespace espq
