#pragma once
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

/// Gives every operand that reads a shared parameter a copy of its own (the tensor's memory stays shared), so that each
/// can be quantized for its own operation. The first reader keeps the name.
PassReport separate_parameters(Graph& graph);

}  // namespace espq
