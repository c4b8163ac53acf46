#pragma once
#include "core/graph/graph.h"
#include "passes/optimize/reference.h"
#include "passes/report.h"

namespace espq {

/// `graph` becomes `changed` if its float outputs are still those of `before`, to float rounding (kSameFunction);
/// otherwise the report has no changes any more, and says by how much they differ.
void keep_if_same(Graph& graph, Graph changed, Reference& before, PassReport& report);

}  // namespace espq
