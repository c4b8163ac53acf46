#pragma once
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

/// Adding (subtracting) a constant per channel becomes part of the bias of the Conv, ConvTranspose or Gemm in front;
/// `c - x` also negates the weights. An existing bias is added to, never replaced. Refuses constants that vary along
/// another axis or broadcast the value.
PassReport fold_offset(Graph& graph);

}  // namespace espq
