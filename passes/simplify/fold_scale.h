#pragma once
#include "core/graph/graph.h"
#include "passes/quirks.h"
#include "passes/report.h"

namespace espq {

struct FoldScaleOptions {
  /// Also into the weights behind the multiplication: Conv(c x) = (c Conv)(x), exact with zero padding.
  bool into_consumer = true;
};

/// Multiplication or division by a constant per channel becomes part of the weights (and bias) of the Conv,
/// ConvTranspose, Gemm or MatMul next to it. Refuses constants that vary along another axis or broadcast the value,
/// division of a constant by the value, and factors that are not finite.
PassReport fold_scale(Graph& graph, const FoldScaleOptions& options = {}, const Quirks& quirks = {});

}  // namespace espq
