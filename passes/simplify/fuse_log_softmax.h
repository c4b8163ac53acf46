#pragma once
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

/// Log of a Softmax that nobody else reads becomes LogSoftmax under the Log's name.
PassReport fuse_log_softmax(Graph& graph);

}  // namespace espq
