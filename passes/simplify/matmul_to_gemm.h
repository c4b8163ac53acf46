#pragma once
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

struct MatMulToGemmOptions {
  /// Also for values of three or more dimensions, as Reshape, Gemm, Reshape.
  bool higher_rank = true;
  /// Also a MatMul without an Add behind it (2-D values only).
  bool without_bias = false;
};

/// MatMul by a constant [K, N] with an Add of a constant per column becomes Gemm: the bias joins the accumulator
/// instead of being an operation with a rounding of its own. The Gemm takes the MatMul's name, its result the Add's.
/// Needs shapes.
PassReport matmul_to_gemm(Graph& graph, const MatMulToGemmOptions& options = {});

}  // namespace espq
