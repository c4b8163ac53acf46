#pragma once
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

struct FoldOffsetOptions {
  /// As esp-ppq 1.3.12: an Add only, of a Conv or ConvTranspose with a constant [1, C, 1 ...] of equal rank and C > 1,
  /// or of a Gemm with any constant, and only where there is no bias yet. The operation keeps the name of its own
  /// result, not of the Add's.
  bool like_incumbent = false;
};

/// Adding (subtracting) a constant per channel becomes part of the bias of the Conv, ConvTranspose or Gemm in front;
/// `c - x` also negates the weights. An existing bias is added to, never replaced. Refuses constants that vary along
/// another axis or broadcast the value.
PassReport fold_offset(Graph& graph, const FoldOffsetOptions& options = {});

}  // namespace espq
