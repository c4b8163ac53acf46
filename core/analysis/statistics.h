#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "core/analysis/error_analysis.h"

namespace espq {

/// Distribution of the values of one tensor over all batches.
struct ValueStatistics {
  double mean = 0;
  double deviation = 0;  ///< standard deviation, of a sample (n - 1)
  double skewness = 0;   ///< mean of z^3, z = (x - mean) / deviation; 0 for constant values
  double kurtosis = 0;   ///< mean of z^4, less 3; 0 for constant values
  double lowest = 0, highest = 0;
  std::vector<int64_t> counts;  ///< 32 equal intervals from lowest to highest, both ends included
};

/// One operand or result of a quantized operation, float and quantized.
struct SlotStatistics {
  std::string operation, type, tensor;
  bool parameter = false, input = false;
  double noise_to_signal = 0;  ///< over all values as one vector: sum (q - f)^2 / (sum f^2 + 1e-7)
  ValueStatistics reference = {}, quantized = {}, noise = {};
};

/// Statistics of every operand and result of every quantized operation that computes something (those that only move
/// values are left out), in file order: inputs, then outputs. Both graphs run as a whole, so that noise adds up on the
/// way. Every value counts; parameters once. Runs each batch twice: for the moments and for the histograms.
std::vector<SlotStatistics> slot_statistics(const Graph& quantized, const Dataset& data,
                                            size_t batches = ErrorAnalysisOptions{}.batches);

nlohmann::ordered_json to_json(const std::vector<SlotStatistics>& statistics);
nlohmann::ordered_json to_json(const std::vector<OperationError>& errors);

}  // namespace espq
