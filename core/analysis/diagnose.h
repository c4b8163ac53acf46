#pragma once
#include <string_view>

#include "core/analysis/compare.h"

namespace espq {

/// Fills cause, explanation, advice and carried_from of every layer, and of outputs that are layers. The first match on
/// the layer's own noise power wins: half of it lies on clipped values (Clipping), on saturated results (Saturation),
/// or is what rounding makes: then the step may be coarser than the values need because a tensor that shares the
/// exponent needs it (Alignment), or not (Resolution). What is left is due to an operand or a constant that the layer
/// reads clipped (Operands), else to rounded operands and constants and to the integer arithmetic (Parameters). Advice
/// names what can be done for this layer only: nothing, where nothing can. `b` is the quantized graph whose tensors
/// were compared with those of a float network.
void diagnose(const Graph& b, Comparison& comparison);

/// "clipping", "resolution" ...
std::string_view cause_name(Cause cause);

}  // namespace espq
