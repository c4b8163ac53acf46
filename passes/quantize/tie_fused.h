#pragma once
#include "core/graph/graph.h"
#include "passes/quirks.h"
#include "passes/report.h"

namespace espq {

/// Slots that share one grid because the chip computes them in one step (Conv + Relu) or not at all (Reshape, MaxPool):
/// one slot of the group rounds, the others carry. Three steps in this order: weights-and-activation pairs of equal
/// width; passive operations behind another operation of the same width; any operation in front of a Relu or Clip that
/// is its only reader, where a narrower Relu behind an operator with a fused Relu takes that operator's width.
PassReport tie_fused(Graph& graph, const Quirks& quirks = {});

/// An operand that reads the output of an operation of the same width and scheme carries that output's grid.
PassReport tie_consumers(Graph& graph, const Quirks& quirks = {});

}  // namespace espq
