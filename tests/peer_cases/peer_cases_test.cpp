// Pipeline parity: with the recipe of esp-ppq 1.3.12, espq's file of every network is that package's file.
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <set>

#include "tests/peer_cases/peer_comparison.h"

namespace espq {
namespace {

/// The 8-bit runs whose options only choose a calibration or alignment method; the rest waits for its pass.
std::vector<PeerRun> runs_for(const std::string& target) {
  std::vector<PeerRun> runs = peer_runs(ESPQ_RECIPES "/esp-ppq-1.3.12.json");
  std::erase_if(runs, [&](const PeerRun& run) {
    return run.options.target != target || run.options.widths.bits != 8 || !run.skipped.empty();
  });
  return runs;
}

class PeerCases : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { spdlog::set_level(spdlog::level::warn); }
};

TEST_P(PeerCases, FilesAreEqual) {
  ESPQ_REQUIRE_REFERENCE_DATA("peer_cases");
  /// Operators that are not in the table yet; the list may only shrink.
  const std::set<std::string> waiting = {"Attention", "GRU", "LSTM"};
  int compared = 0;
  for (const PeerRun& run : runs_for(GetParam())) {
    const PeerComparison result = compare_with_peer(run, PeerSource::Simplified);
    if (result.status == PeerComparison::Status::Unsupported) {
      EXPECT_TRUE(waiting.contains(result.message)) << run.name() << ": " << result.message;
      continue;
    }
    ++compared;
    EXPECT_NE(result.status, PeerComparison::Status::Failed) << run.name() << ": " << result.message;
    for (size_t i = 0; i < result.differences.size(); ++i)
      EXPECT_NE(result.reasons[i], "") << run.name() << ": " << to_text({result.differences[i]});
  }
  EXPECT_GE(compared, 50) << "most of the collection must have been compared";
}

INSTANTIATE_TEST_SUITE_P(Targets, PeerCases, testing::Values("esp32p4", "esp32s3", "c"));

}  // namespace
}  // namespace espq
