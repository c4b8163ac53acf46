#pragma once
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

struct FuseSwishOptions {
  /// As esp-ppq 1.3.12: the new operation is called <producer of x>/Swish (<Sigmoid>/Swish when x is a graph input or
  /// the name is taken) and stands at the end of the insertion order.
  bool like_incumbent = false;
};

/// x * Sigmoid(x) becomes Swish(x) under the Mul's name. Refuses when the Sigmoid's result is a graph output or has
/// other readers.
PassReport fuse_swish(Graph& graph, const FuseSwishOptions& options = {});

}  // namespace espq
