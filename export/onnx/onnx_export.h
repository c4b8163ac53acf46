#pragma once
#include <filesystem>

#include "core/graph/graph.h"

namespace espq {

/// Writes a float graph as an ONNX model: opset 18, or the lowest later one that has all its operators (Gelu needs 20,
/// RMSNormalization and Attention 23). Operators that ONNX lacks are written in its terms (Swish as Sigmoid and Mul).
/// Quantization is not written: slots, scales and widths are ignored. Nodes come in topological order. Shapes of
/// outputs that the graph does not know are computed, so the inputs need a shape.
/// Throws UserError naming the operation when ONNX cannot express it, and when the file cannot be written.
void export_onnx(const Graph& float_graph, const std::filesystem::path& file);

}  // namespace espq
