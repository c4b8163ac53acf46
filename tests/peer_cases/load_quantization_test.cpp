// Quantization from a file instead of data: a .json of espq gives the integers of the run that wrote it, and one of
// esp-ppq 1.3.12 gives that package's.
#include "passes/quantize/load_quantization.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include "core/ops/operator.h"
#include "core/support/file.h"
#include "export/espdl/convert.h"
#include "export/espdl/diff.h"
#include "export/espdl/reader.h"
#include "export/json/json.h"
#include "onnx_frontend/onnx_frontend.h"
#include "passes/pipeline/write.h"
#include "tests/peer_cases/peer_comparison.h"
#include "tests/temporary_folder.h"
#include "tests/user_error.h"

namespace espq {
namespace {

using test::TemporaryFolder;
using test::user_error_of;
using ::testing::HasSubstr;

class LoadQuantization : public testing::Test {
 protected:
  void SetUp() override {
    spdlog::set_level(spdlog::level::err);
    at::set_num_threads(1);
    // Also links what peer_comparison.cpp does at the start: esp-ppq's numbers are those of LibTorch's AVX2 kernels.
    ASSERT_EQ(to_text(PeerComparison::Status::Equal), "equal");
  }
  void TearDown() override { spdlog::set_level(spdlog::level::warn); }

  static std::vector<PeerRun> runs() { return peer_runs(ESPQ_RECIPES "/esp-ppq-1.3.12.json"); }
  static std::string differences(const EspdlModel& first, const Conversion& second) {
    return to_text(diff(first, to_model(second.chip), {.test_values = false}));
  }
  static std::string differences_from_incumbent(const EspdlModel& peer, const Conversion& made) {
    auto found = diff(peer, to_model(made.chip), {.test_values = false});
    std::erase_if(found, [&](const EspdlDifference& difference) {
      return from_other_kernels(difference, made.recipe.widths.bits);
    });
    return to_text(found);
  }
};

/// Without any data, with espq's own recipe and with parity's.
TEST_F(LoadQuantization, GivesTheIntegersOfTheRunThatWroteTheFile) {
  const TemporaryFolder folder;
  int compared = 0;
  std::string last;
  for (const PeerRun& run : runs()) {
    // One run of parity for each network and target, and one with espq's own choices.
    const std::string name = run.network + run.recipe.target + std::to_string(run.recipe.widths.bits);
    if (!run.skipped.empty() || name == last) continue;
    last = name;
    Recipe own;
    own.target = run.recipe.target;
    own.widths.bits = run.recipe.widths.bits;
    const Dataset data = Dataset::open({run.calibration});
    const Graph network = import_onnx(run.model);
    for (Recipe recipe : {run.recipe, own}) {
      SCOPED_TRACE(run.name());
      Conversion made;
      try {
        made = convert(network, data, recipe);
      } catch (const UserError&) {
        continue;  // what the chip cannot run, the chip library's forms among them
      }
      recipe.load_quantization = folder / "q.json";
      write_file(recipe.load_quantization, quantization_text(made.chip));
      try {
        EXPECT_EQ(differences(to_model(made.chip), convert(network, {}, recipe)), "");
        ++compared;
      } catch (const UserError& error) {
        ADD_FAILURE() << error.what();
      }
    }
  }
  EXPECT_GE(compared, peer_cases().at_least(200, 30));
}

TEST_F(LoadQuantization, GivesTheIncumbentsIntegers) {
  int compared = 0;
  for (PeerRun run : runs()) {
    if (!run.has_json() || !run.skipped.empty()) continue;
    const EspdlModel peer = read_espdl_file(run.folder / "peer.espdl");
    const auto unknown = [](const EspdlNode& node) { return !operators().find(node.op_type); };
    if (std::any_of(peer.nodes.begin(), peer.nodes.end(), unknown)) continue;  // its own fusion of attention
    SCOPED_TRACE(run.name());
    run.recipe.load_quantization = run.folder / "peer.json";
    try {
      const Conversion loaded = convert(import_onnx(run.model), {}, run.recipe);
      EXPECT_EQ(differences_from_incumbent(peer, loaded), "");
      ++compared;
    } catch (const UserError& error) {
      ADD_FAILURE() << error.what();
    }
  }
  EXPECT_GE(compared, peer_cases().at_least(200, 4));
}

TEST_F(LoadQuantization, SaysWhatIsMissingAndWhatIsUnknown) {
  const TemporaryFolder folder;
  const PeerRun run =
      read_peer_run(peer_cases().folder / "residual_shared/esp32p4_w8a8", ESPQ_RECIPES "/esp-ppq-1.3.12.json");
  const Dataset data = Dataset::open({run.calibration});
  const Graph network = import_onnx(run.model);
  const Conversion made = convert(network, data, run.recipe);
  nlohmann::ordered_json json = quantization_json(made.chip);
  // An operation under another name is missing and unknown. Nobody else reads the image.
  const std::string name = json["configs"].begin().key();
  json["configs"]["renamed"] = json["configs"][name];
  json["configs"].erase(name);
  Recipe recipe = run.recipe;
  recipe.load_quantization = folder / "q.json";
  write_file(recipe.load_quantization, json.dump());
  const auto warnings = convert(network, data, recipe).report.warnings();
  EXPECT_THAT(warnings, testing::Contains(HasSubstr("has no grids for '" + name + "'")));
  EXPECT_THAT(warnings, testing::Contains(HasSubstr("'renamed'")));
  // What is missing needs data.
  EXPECT_THAT(user_error_of([&] { convert(network, {}, recipe); }), HasSubstr("give calibration data for them"));
  // The file of another chip or width.
  json = quantization_json(made.chip);
  write_file(recipe.load_quantization, json.dump());
  recipe.target = "esp32s3";
  EXPECT_THAT(user_error_of([&] { convert(network, {}, recipe); }), HasSubstr("the file is for another chip"));
  // Files that are none.
  const auto refused = [&](const std::string& text) {
    write_file(folder / "bad.json", text);
    return user_error_of([&] { read_quantization(folder / "bad.json"); });
  };
  EXPECT_THAT(refused("{"), HasSubstr("bad.json: is no JSON"));
  EXPECT_THAT(refused("{}"), HasSubstr("has no \"configs\""));
  const std::string config = R"("bit_width": 8, "state": "ACTIVATED", "dominator": 7)";
  EXPECT_THAT(refused(R"({"configs": {"a": {"x": {)" + config + R"(}}}, "values": {"7": {"scale": 0.3}}})"),
              HasSubstr("operation 'a', tensor 'x': the scale 0.3 is no power of two"));
  EXPECT_THAT(refused(R"({"configs": {"a": {"x": {"bit_width": 8}}}, "values": {}})"), HasSubstr("has no \"state\""));
}

}  // namespace
}  // namespace espq
