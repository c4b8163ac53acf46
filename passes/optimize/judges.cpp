#include "passes/optimize/judges.h"

#include "core/exec/side_by_side.h"

namespace espq {

std::vector<JudgedNoise> Judges::noise(const std::vector<const Graph*>& networks, size_t threads) {
  std::vector<JudgedNoise> result(networks.size());
  // Those with the most batches first.
  share_out(2 * networks.size(), threads, [&](size_t i) {
    const size_t network = i % networks.size();
    if (i < networks.size())
      result[network].training = training_.simulated_error(*networks[network]);
    else
      result[network].held_out = held_out_.simulated_error(*networks[network]);
  });
  return result;
}

}  // namespace espq
