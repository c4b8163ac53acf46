#pragma once
#include "core/graph/graph.h"
#include "passes/legalize/legalize.h"

namespace espq {

/// Operations behind one another that compute single elements of one tensor (HardSwish, then Mul and Add with a number;
/// x * Sigmoid(c x); the spelt-out Gelu) become one ScalarFunction, whose table is exact at 8 bits: one rounding and
/// one pass over memory in place of several. The last operation keeps its name and result. Takes operations with their
/// widths. Leaves what is not 8 bits wide, values in between that others read or that leave the network, and a Relu or
/// Clip that is computed along with the layer in front of it.
PassReport fuse_scalar_functions(Graph& graph, Origins* origins = nullptr);

}  // namespace espq
