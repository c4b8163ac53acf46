#pragma once
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

/// Two operations of the same type with the same operands (constants compared by value) and attributes compute the
/// same: the second one's readers read the first one's result. Operations that write a graph output stay.
PassReport merge_duplicates(Graph& graph);

}  // namespace espq
