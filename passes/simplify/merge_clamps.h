#pragma once
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

/// Finds operations that keep a value within bounds (Relu, Clip, Min or Max with one number) and gives them the form
/// that costs the chip least:
/// - one right behind another: a single one with the bounds that both leave;
/// - from 0 up: a Relu, which the chip computes inside the Conv or Gemm in front of it;
/// - other Min and Max: a Clip; one without bounds goes.
/// The last operation keeps its name and output. Leaves bounds that are computed, integers, values between two that
/// are read elsewhere or leave the graph, and bounds that leave a single value.
PassReport merge_clamps(Graph& graph);

}  // namespace espq
