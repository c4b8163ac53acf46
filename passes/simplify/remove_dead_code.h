#pragma once
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

/// Removes operations that lead to no graph output, and variables that nothing links to. Graph inputs stay, also
/// unused ones: they are the network's contract.
PassReport remove_dead_code(Graph& graph);

}  // namespace espq
