#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "core/graph/graph.h"
#include "passes/optimize/reference.h"

namespace espq {

/// What the rounding of each operation does to the network's outputs, to first order: double [batches * probes,
/// operations]. In a row stand the operations' shares in one projection of the outputs' error: the gradient of the
/// projected float outputs with respect to the operation's results, times the difference between its results with
/// rounding and in float, both from float operands. Of a layer with a bias of its own the mean of the difference per
/// channel is left out, which bias correction takes back. Projections are drawn from signs that are scaled such that
/// the squares of sums of columns, summed over rows and divided by `probes`, are Reference::error of the operations
/// together. Signs stay, so errors that cancel each other are seen.
/// `reference`: of the float network. Operands are not rounded again on the grid on which they arrive.
at::Tensor projected_errors(const Graph& quantized, const std::vector<const Operation*>& operations,
                            Reference& reference, int64_t probes, uint64_t seed = 1);

}  // namespace espq
