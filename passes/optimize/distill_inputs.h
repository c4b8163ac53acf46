#pragma once
#include <cstdint>
#include <optional>
#include <utility>

#include "core/data/dataset.h"
#include "core/graph/graph.h"

namespace espq {

struct DistillInputsOptions {
  int64_t steps = 100;  ///< per input
  double rate = 0.1;    ///< of Adam at its height, in deviations of the drawn numbers
  /// Numbers stay within; none = they are free.
  std::optional<std::pair<double, double>> range = std::nullopt;
};

/// Inputs for a network without data, from drawn ones: they are moved until every BatchNormalization of the float
/// network meets the mean and the variance per channel that it holds since its training. Together the inputs are one
/// batch for these statistics. Minimized is, as a mean over channels and BatchNormalizations,
///   ((mean - running mean) / s)^2 + (deviation / s - 1)^2, s^2 = running variance + epsilon
/// (as in Cai et al. 2020, arXiv 2001.00281, in units that serve channels of every size). `network`: as imported,
/// before simplify() folds them. Same bytes for any number of threads. Throws UserError when the network has no
/// BatchNormalization with constant statistics, or on options that make no sense.
Dataset distill_inputs(const Graph& network, const Dataset& drawn, const DistillInputsOptions& options = {});

/// What is minimized, of inputs as they are.
double distance_to_statistics(const Graph& network, const Dataset& data);

}  // namespace espq
