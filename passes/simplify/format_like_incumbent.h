#pragma once
#include "core/graph/graph.h"
#include "passes/simplify/simplify.h"

namespace espq {

/// What esp-ppq 1.3.12 does to a graph between reading and quantizing it, in its order and with its names, so that a
/// graph from a simplified ONNX file has exactly the operators, the insertion order and the parameters that it
/// quantizes: one reader per parameter, Add into a missing bias, BatchNormalization into weights (changed operations
/// move to the end), isolated BatchNormalization to depthwise Conv, Swish, RMSNormalization and LpNormalization (at the
/// end), Identity and dead code removal. What it does to attributes and operands (Clip, Pad, Slice, Resize, Cast) the
/// frontend has done. Where it would damage or refuse a graph, this leaves the operation as it is. ConvTranspose is
/// decomposed later (decompose_conv_transpose), after equalization. Records shapes of all variables (UserError naming
/// an input without a shape).
SimplifyReport format_like_incumbent(Graph& graph);

}  // namespace espq
