#pragma once
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

/// A Transpose of a matrix in front of Gemm becomes transA or transB.
/// Other readers of the transposed matrix keep it.
PassReport fold_transpose_into_gemm(Graph& graph);

}  // namespace espq
