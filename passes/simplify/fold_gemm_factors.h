#pragma once
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

/// Gemm computes alpha A B + beta C. Multiplies a constant B by alpha and a constant C by beta, so that the bias lives
/// on the grid of the product (the chip has neither factor), and drops a C that beta = 0 switches off.
PassReport fold_gemm_factors(Graph& graph);

}  // namespace espq
