#pragma once
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

/// x / 2 (1 + erf(x / sqrt 2)), its factors in any order, becomes Gelu under the last operation's name. Refuses when an
/// interior value is a graph output or has other readers.
PassReport fuse_gelu(Graph& graph);

}  // namespace espq
