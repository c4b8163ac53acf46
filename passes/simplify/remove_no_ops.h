#pragma once
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

/// Cuts out operations that return their operand unchanged: Identity, Dropout (at inference), Cast to the same type,
/// Transpose in the same order, Reshape / Flatten / Squeeze / Unsqueeze / Expand to the same shape, Pad by nothing,
/// Slice of everything, Concat of one, and Relu on a Relu. Those that carry a graph input straight to a graph output
/// stay, since both names are the user's.
PassReport remove_no_ops(Graph& graph);

}  // namespace espq
