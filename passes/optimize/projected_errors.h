#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "core/data/dataset.h"
#include "core/graph/graph.h"
#include "passes/optimize/reference.h"

namespace espq {

/// What is looked at as one.
struct RoundingPart {
  std::vector<const Operation*> operations;  ///< in topological order
  /// Of a single layer with constant weights: what their rounding does beyond the mean per channel, which a bias takes
  /// back. false: everything that the operations round.
  bool weights_alone = false;
};

/// What each part's rounding does to the network's outputs, to first order: double [batches * probes, parts]. In a row
/// stand the parts' shares in one projection of the outputs' error: the gradient of the projected float outputs with
/// respect to the part's results, times the difference between its results with rounding and in float, both from float
/// operands. Projections are drawn from signs that are scaled such that the squares of sums of columns, summed over
/// rows and divided by `probes`, are Reference::error of the parts together. Signs stay, so errors that cancel each
/// other are seen.
/// `reference`: of the float network. Operands are not rounded again on the grid on which they arrive.
at::Tensor projected_errors(const Graph& quantized, const std::vector<RoundingPart>& parts, Reference& reference,
                            int64_t probes, uint64_t seed = 1);

/// Operations of a quantized graph that round by themselves, one part each.
std::vector<RoundingPart> parts_of(const Graph& quantized);

/// Noise of the outputs with all parts but those of the columns `without`, by a result of projected_errors().
double projected_noise(const at::Tensor& errors, const std::vector<size_t>& without, int64_t probes);

}  // namespace espq
