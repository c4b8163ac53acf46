#pragma once
#include "core/graph/graph.h"
#include "passes/quantize/layers.h"
#include "passes/quirks.h"
#include "passes/report.h"

namespace espq {

/// Gives tensors the exponents that `layers` fixes (LayerOptions::exponent, LayerOptions::range): first results of
/// operations and graph inputs, with all that is tied to them. Run again whenever exponents have moved.
/// Throws UserError naming the tensor: not quantized, or two tensors of one scale fixed to different exponents.
PassReport fix_exponents(Graph& graph, const Layers& layers, const Quirks& quirks = {});

}  // namespace espq
