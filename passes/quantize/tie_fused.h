#pragma once
#include "core/graph/graph.h"
#include "core/support/json_fields.h"
#include "passes/report.h"

namespace espq {

struct TieOptions {
  /// Relu and Clip take over the scale of the operation in front of them even when the value between the two is a graph
  /// output; that output then stays unquantized until export (esp-ppq 1.3.12).
  bool through_graph_outputs = false;
  /// Of an operation that reads one tensor twice, only the first operand carries its grid (esp-ppq 1.3.12).
  bool first_operand_only = false;
};

template <class Fields>
void describe(Fields& fields, TieOptions& options) {
  fields("through_graph_outputs", options.through_graph_outputs);
  fields("first_operand_only", options.first_operand_only);
}

/// Slots that share one grid because the chip computes them in one step (Conv + Relu) or not at all (Reshape, MaxPool):
/// one slot of the group rounds, the others carry. Three steps in this order: weights-and-activation pairs of equal
/// width; passive operations behind another operation of the same width; any operation in front of a Relu or Clip that
/// is its only reader, where a narrower Relu behind an operator with a fused Relu takes that operator's width.
PassReport tie_fused(Graph& graph, const TieOptions& options);

/// An operand that reads the output of an operation of the same width and scheme carries that output's grid.
PassReport tie_consumers(Graph& graph, const TieOptions& options);

}  // namespace espq
