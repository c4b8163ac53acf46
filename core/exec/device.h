#pragma once
#include "core/graph/graph.h"

namespace espq {

/// Puts the constants that kernels compute with on `device`, where an Executor then expects its inputs (Float and
/// Simulated precision; Board precision is the processor's). Indices, axes, shapes and the like stay on the processor,
/// where kernels read them.
void move_parameters(Graph& graph, at::Device device);

}  // namespace espq
