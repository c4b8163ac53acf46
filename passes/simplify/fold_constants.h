#pragma once
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

struct FoldConstantsOptions {
  /// A result with more elements than this stays computed at run time, unless it is no larger than its operands.
  int64_t max_elements = int64_t{1} << 22;
};

/// Computes every operation whose operands are all constant, and Shape and Size of values with a static shape, so that
/// chains such as Shape, Gather, Concat, Reshape end in a constant. Needs shapes (infer_shapes) for the latter.
/// A shape is only trusted when nothing that it depends on is computed from the network's data. Graph outputs stay
/// computed.
PassReport fold_constants(Graph& graph, const FoldConstantsOptions& options = {});

}  // namespace espq
