#pragma once
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

/// The Sigmoid of x * Sigmoid(x), which `multiplication` computes; nullptr when it computes something else, or when the
/// Sigmoid's result is a graph output or has other readers.
Operation* swish_sigmoid(const Graph& graph, Operation& multiplication);

/// x * Sigmoid(x) becomes Swish(x) under the Mul's name.
PassReport fuse_swish(Graph& graph);

}  // namespace espq
