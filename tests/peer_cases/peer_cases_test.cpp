// Pipeline parity: with the recipe of esp-ppq 1.3.12, espq's file of every network is that package's file.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <set>

#include "core/exec/executor.h"
#include "export/conversion/test_values.h"
#include "export/conversion/verify.h"
#include "export/espdl/convert.h"
#include "export/espdl/reader.h"
#include "export/espdl/writer.h"
#include "onnx_frontend/onnx_frontend.h"
#include "passes/pipeline/write.h"
#include "tests/peer_cases/peer_comparison.h"

namespace espq {
namespace {

/// The runs whose options only choose a calibration or alignment method; the rest waits for its pass.
std::vector<PeerRun> runs_for(const std::string& target) {
  std::vector<PeerRun> runs = peer_runs(ESPQ_RECIPES "/esp-ppq-1.3.12.json");
  std::erase_if(runs, [&](const PeerRun& run) { return run.recipe.target != target || !run.skipped.empty(); });
  return runs;
}

class PeerCases : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { spdlog::set_level(spdlog::level::warn); }
};

TEST_P(PeerCases, FilesAreEqual) {
  /// Operators that are unknown yet; the list may only shrink.
  const std::set<std::string> waiting = {"Attention"};
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
  EXPECT_GE(compared, peer_cases().at_least(50, 22)) << "most runs must have been compared";
}

/// The whole way from the user's model: espq's simplifier takes the place of onnxsim.
TEST_P(PeerCases, FilesAreEqualFromTheOriginalModel) {
  // onnxsim joins the MatMuls that read one tensor into one MatMul and a Split; espq keeps them, each with its bias in
  // the accumulator.
  const std::set<std::string> simplified_better = {"matmul_dynamic"};
  int compared = 0;
  for (const PeerRun& run : runs_for(GetParam())) {
    // 16-bit weights show that espq folds BatchNormalization in float64 and onnxsim in float32.
    const Layers& layers = run.recipe.layers;
    const bool mixed = std::any_of(layers.begin(), layers.end(), [](const auto& layer) { return layer.second.width; });
    if (run.recipe.widths.bits != 8 || mixed) continue;
    if (simplified_better.contains(run.network)) continue;
    const PeerComparison result = compare_with_peer(run, PeerSource::Original);
    if (result.status == PeerComparison::Status::Unsupported) continue;
    ++compared;
    EXPECT_NE(result.status, PeerComparison::Status::Failed) << run.name() << ": " << result.message;
    for (size_t i = 0; i < result.differences.size(); ++i)
      EXPECT_NE(result.reasons[i], "") << run.name() << ": " << to_text({result.differences[i]});
  }
  EXPECT_GE(compared, peer_cases().at_least(50, 20));
}

/// Largest error of an 8-bit network, relative to the norm of its float outputs.
constexpr double kWorstRelativeError = 0.25;

/// Models that esp-ppq refuses: espq's own recipe quantizes them, and the file gives the numbers of the float network.
TEST_P(PeerCases, ModelsThatTheIncumbentRefusesWork) {
  c10::AutoGradMode no_gradients(false);
  int tried = 0;
  for (const auto& folder : std::filesystem::directory_iterator(peer_cases().folder)) {
    if (!folder.path().filename().string().starts_with("fails_")) continue;
    SCOPED_TRACE(folder.path().filename());
    const Dataset calibration = Dataset::open({folder.path() / "calib"});
    const Graph original = import_onnx(folder.path() / "model.onnx");
    Recipe recipe;
    recipe.target = GetParam();
    const Conversion made = convert(original, calibration, recipe);
    const Tensors batch = calibration.inputs(original, 0);
    NamedTensors inputs;
    for (size_t i = 0; i < batch.size(); ++i) inputs[original.inputs()[i]->name()] = batch[i];
    const EspdlModel model = to_model(made.chip, answers(made, inputs));
    for (const OutputCheck& check : verify_model(read_espdl(write_espdl(model)), *made.chip.target()))
      EXPECT_TRUE(check.equal()) << check.name;
    const Tensors want = Executor(original, Precision::Float).run(batch);
    const Tensors got = Executor(made.quantized, Precision::Simulated).run(batch);
    for (size_t i = 0; i < want.size(); ++i)
      EXPECT_LT((want[i] - got[i]).norm().item<double>(), kWorstRelativeError * want[i].norm().item<double>());
    ++tried;
  }
  EXPECT_EQ(tried, 7);
}

INSTANTIATE_TEST_SUITE_P(Targets, PeerCases, testing::Values("esp32p4", "esp32s3", "c"));

}  // namespace
}  // namespace espq
