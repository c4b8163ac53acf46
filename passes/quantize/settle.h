#pragma once
#include "core/graph/graph.h"
#include "passes/quirks.h"
#include "passes/report.h"

namespace espq {

/// Exponents that follow from others: bias = input + weight, inner states of recurrent cells -9, Clip bounds and Pad
/// values as operand 0. Run again whenever scales change. Biases are flattened to one dimension.
/// - The weight exponent of a channel is raised until its bias fits the accumulator and its output shift is at most 31
///   (nearly dead channels would otherwise saturate or shift by more than the chip can).
/// - An output exponent that is finer than the product of input and weight is raised: the chip cannot shift left.
/// Throws UserError naming the operation when a bias is not constant or its size is wrong.
PassReport settle(Graph& graph, const Quirks& quirks = {});

}  // namespace espq
