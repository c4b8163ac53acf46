#pragma once
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

struct MergeChainsOptions {
  /// Also what makes a Transpose or an offset change places with a Reshape.
  bool across_reshapes = true;
};

/// Two operations in a row that are one: Transpose of Transpose, Reshape (Flatten, Squeeze, Unsqueeze) of Reshape,
/// Slice of Slice along other axes; Reshape, element-wise operation, Reshape, where the first Reshape moves behind
/// the element-wise operation (its constants take the other shape); Squeeze, Transpose, Reshape, where the
/// Transpose moves to the front; and MatMul, Reshape, Add of a constant, where the Add does. The last operation keeps
/// its name; the first one stays when somebody else reads its result. Needs shapes for all but Transpose.
PassReport merge_chains(Graph& graph, const MergeChainsOptions& options = {});

}  // namespace espq
