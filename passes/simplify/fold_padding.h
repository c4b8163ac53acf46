#pragma once
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

/// Pad with zeros over the spatial axes becomes part of the pads of the Conv behind it (which may be one of several
/// readers: each Conv pads for itself, and other readers keep the Pad). Refuses other modes, other values, batch or
/// channel padding, cropping, and a Conv with an auto_pad that depends on the size.
PassReport fold_padding(Graph& graph);

}  // namespace espq
