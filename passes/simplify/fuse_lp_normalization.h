#pragma once
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

struct FuseLpNormalizationOptions {
  /// The largest lower bound of the norm that counts as protection against division by zero, which LpNormalization has
  /// built in. PyTorch writes 1e-12.
  double largest_bound = 1e-6;
};

/// x / max(norm(x), tiny), the norm being ReduceL2 (or ReduceL1) along one axis, bounded by Clip or Max and spread by
/// an optional Expand, becomes LpNormalization. Refuses larger bounds, upper bounds and interior values that somebody
/// else reads. Needs shapes.
PassReport fuse_lp_normalization(Graph& graph, const FuseLpNormalizationOptions& options = {});
/// The same for one Div; returns whether it became LpNormalization.
bool fuse_lp_normalization(Graph& graph, Operation& division, const FuseLpNormalizationOptions& options = {});

}  // namespace espq
