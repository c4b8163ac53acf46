#pragma once
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

struct FuseRmsNormalizationOptions {
  /// As esp-ppq 1.3.12: the axis is counted from the end when the axes are given so, a missing epsilon becomes 1e-5,
  /// the new operation is called <last Mul>_rmsnorm and stands at the end of the insertion order.
  bool like_incumbent = false;
};

/// x / sqrt(mean(x^2) + epsilon) times a constant gain becomes RMSNormalization over the trailing axes; the division
/// may also be a Reciprocal (or 1 / .) and a Mul. Refuses other exponents, axes that are not the trailing ones, gains
/// of another shape and interior values that somebody else reads. Needs shapes.
PassReport fuse_rms_normalization(Graph& graph, const FuseRmsNormalizationOptions& options = {});

}  // namespace espq
