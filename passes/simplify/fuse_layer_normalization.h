#pragma once
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

/// d = x - mean(x), d / sqrt(mean(d^2) + epsilon), with an optional constant gain and offset behind it, becomes
/// LayerNormalization over the trailing axes under the last operation's name. Refuses other exponents, axes that are
/// not the trailing ones, gains of another shape and interior values that somebody else reads. Needs shapes.
PassReport fuse_layer_normalization(Graph& graph);

}  // namespace espq
