#pragma once
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

/// Finds HardSigmoid = clip(alpha x + 1/2, 0, 1) and HardSwish = x clip(x / 6 + 1/2, 0, 1) in the spellings of
/// exporters: Clip, Min, Max or Relu for the ramp; adding 3 and clipping to 6 with a division by 6 (or multiplication
/// by 1/6) before, between or behind; HardSigmoid times x. The last operation keeps its name. Refuses when an interior
/// value is a graph output or has other readers.
PassReport fuse_hard_activations(Graph& graph);

}  // namespace espq
