#pragma once
#include <cstddef>
#include <vector>

#include "core/graph/graph.h"
#include "passes/optimize/held_out.h"
#include "passes/optimize/reference.h"

namespace espq {

/// Noise over signal on data that something was chosen or trained with, and on others. The best of many trials is good
/// on some data by chance; on both it is more likely to be good.
struct JudgedNoise {
  double training = 0, held_out = 0;

  double mean() const { return (training + held_out) / 2; }
  /// On both; the mean by the share `gain` at least.
  bool falls_below(const JudgedNoise& other, double gain = 0) const {
    return training < other.training && held_out < other.held_out && mean() < other.mean() * (1 - gain);
  }
};

/// What says on both parts of the data how far a quantized network is from `network`.
class Judges {
 public:
  Judges(const Graph& network, const DividedData& data)
      : training_(network, data.training), held_out_(network, data.held_out) {}

  /// Of the outputs in Simulated precision (Reference::simulated_error). Several threads may ask at once.
  JudgedNoise noise(const Graph& quantized) {
    return {training_.simulated_error(quantized), held_out_.simulated_error(quantized)};
  }
  /// The same of several networks, on `threads` threads.
  std::vector<JudgedNoise> noise(const std::vector<const Graph*>& networks, size_t threads);

 private:
  Reference training_, held_out_;
};

}  // namespace espq
