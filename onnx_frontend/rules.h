#pragma once
#include <optional>
#include <string_view>

#include "onnx_frontend/draft.h"

namespace espq::onnx_frontend {

/// The operator of the graph's vocabulary that a node type of the default domain becomes: mostly its own name.
std::string_view vocabulary_type(std::string_view onnx_type);
/// Why a type is refused although the vocabulary has the name; nullopt for all others.
std::optional<std::string_view> refusal(std::string_view onnx_type);

/// Brings a node of opset `draft.opset` to the meaning that its type has in opset 18: attributes that became inputs,
/// defaults that changed, padding given by rule. Throws UserError naming the node.
void normalize(Draft& draft);

}  // namespace espq::onnx_frontend
