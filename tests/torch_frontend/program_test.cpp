#include "tests/cli/program.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "core/data/dataset.h"
#include "tests/reference_data.h"

namespace espq::cli {
namespace {

using ::testing::HasSubstr;

/// The program on files of tests/data/make_torch_cases.py.
class TorchProgram : public ProgramTest {
 protected:
  void SetUp() override {
    ProgramTest::SetUp();
    if (!std::filesystem::exists(std::string(ESPQ_TORCH_CASES) + "/small.pt")) GTEST_SKIP() << "Python has no torch";
    std::filesystem::create_directories(folder_ / "calib");
    // One sample, as the chips take them; the network was exported with two.
    const at::Tensor pictures = read_npz(std::string(ESPQ_TORCH_CASES) + "/small.npz").at("in_0");
    write_npy(input(), pictures.slice(0, 0, 1));
  }
  static std::string model(const std::string& name) { return std::string(ESPQ_TORCH_CASES) + "/" + name; }
  std::string input() const { return (folder_ / "calib" / "0.npy").string(); }
};

TEST_F(TorchProgram, QuantizesBothFormatsToEqualFiles) {
  for (const std::string ending : {"pt", "pt2"}) {
    const ProgramResult result = espq({"quantize", model("small." + ending), "--target", "esp32p4", "--calib",
                                       (folder_ / "calib").string(), "--input-shape", "x=1x3x6x6", "--out",
                                       out(ending + ".espdl"), "--quiet", "--test-input", "x=" + input()});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(espq({"verify", out(ending + ".espdl")}).exit_code, 0);
  }
  const ProgramResult same = espq({"diff", out("pt.espdl"), out("pt2.espdl")});
  EXPECT_EQ(same.exit_code, 0) << same.out;
}

TEST_F(TorchProgram, RunsInFloat) {
  const at::Tensor wanted = read_npz(model("small.npz")).at("out_0").slice(0, 0, 1);
  for (const std::string ending : {"pt", "pt2"}) {
    const ProgramResult result =
        espq({"run", model("small." + ending), "--input", "x=" + input(), "--out-dir", out(ending)});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_TRUE(at::allclose(read_npy(out(ending + "/output.npy")), wanted, 1e-5, 1e-5)) << ending;
  }
}

TEST_F(TorchProgram, ImportChecksAndPrints) {
  const ProgramResult result = espq({"import", model("small.pt"), "--check", "--input-shape", "x=2x3x6x6"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("/conv/Conv"));
  EXPECT_THAT(result.out, HasSubstr("4 of 4 operators agree"));
  const ProgramResult json = espq({"import", model("small.pt2"), "--check", "--json"});
  const auto report = nlohmann::json::parse(json.out);
  EXPECT_TRUE(report.at("check").at("agrees").get<bool>());
  EXPECT_EQ(report.at("inputs").at(0).at("shape"), (std::vector<int64_t>{2, 3, 6, 6}));
}

TEST_F(TorchProgram, TakesElementTypesWithShapes) {
  EXPECT_EQ(espq({"import", model("embedding.pt"), "--check", "--input-shape", "input=2x3:int64"}).exit_code, 0);
  expect_error({"import", model("embedding.pt"), "--input-shape", "input=2x3:int99"}, "int99");
}

TEST_F(TorchProgram, ExplainsWhatIsMissing) {
  expect_error({"quantize", model("small.pt"), "--target", "esp32p4", "--calib", (folder_ / "calib").string(), "--out",
                out("m.espdl")},
               "--input-shape x=");
}

/// The reference collection's own networks, where there is one: what a chip computes is what the file says.
TEST_F(TorchProgram, QuantizesTheReferenceCollection) {
  const auto collection = reference_collection("torch_cases");
  if (!std::filesystem::exists(collection)) GTEST_SKIP() << "no reference collection";
  const std::pair<std::string, std::string> files[] = {
      {"adaptmax_5/A.pt", "x=1x3x12x12"}, {"b_max/A.pt", "x=1x3x12x12"},      {"expand/A.pt", "x=1x3x12x12"},
      {"gn/A.pt", "x=1x3x12x12"},         {"s_sdpa_causal/A.pt", "x=1x3x20"}, {"where_gt/A.pt", "x=1x3x12x12"}};
  for (const auto& [name, shape] : files) {
    const auto file = collection / name;
    const ProgramResult made =
        espq({"quantize", file.string(), "--target", "esp32p4", "--calib", (file.parent_path() / "calib").string(),
              "--input-shape", shape, "--out", out("m.espdl"), "--quiet", "--test-values", "random"});
    EXPECT_EQ(made.exit_code, 0) << name << ": " << made.err;
    EXPECT_EQ(espq({"verify", out("m.espdl")}).exit_code, 0) << name;
  }
}

#ifdef ESPQ_SAMPLE
TEST_F(TorchProgram, SampleQuantizes) {
  const std::string command =
      "'" ESPQ_SAMPLE "' '" + model("small.pt") + "' x '" + (folder_ / "calib").string() + "' '" + out("m.espdl") + "'";
  EXPECT_EQ(std::system(command.c_str()), 0);
  EXPECT_EQ(espq({"inspect", out("m.espdl")}).exit_code, 0);
}
#endif

}  // namespace
}  // namespace espq::cli
