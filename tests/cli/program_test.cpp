#include "tests/cli/program.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/data/dataset.h"

namespace espq::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

class Program : public ProgramTest {
 protected:
  std::vector<std::string> quantize_command(const std::string& target = "esp32p4") const {
    return {"quantize", data("classifier.onnx"), "--target", target, "--calib", data("calib"), "--out", out("m.espdl")};
  }
  /// The classifier as a file with test values.
  void quantize(const std::string& target = "esp32p4") const {
    auto command = quantize_command(target);
    command.insert(command.end(), {"--test-input", "image=" + data("calib/batch_0.npy"), "--quiet"});
    const ProgramResult result = espq(command);
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.out, IsEmpty());
  }
};

TEST_F(Program, RunsAFloatModelAsOnnxruntimeDoes) {
  const ProgramResult result = espq(
      {"run", data("classifier.onnx"), "--input", "image=" + data("calib/batch_0.npy"), "--out-dir", out("results")});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  // The output is called "scores/raw".
  const at::Tensor scores = read_npy(out("results/scores_raw.npy"));
  // Sums of 288 float32 products in another order.
  EXPECT_TRUE(at::allclose(scores, read_npy(data("classifier_scores.npy")), 1e-5, 1e-5));
}

TEST_F(Program, QuantizesVerifiesAndRuns) {
  for (const std::string target : {"esp32p4", "esp32s3", "c"}) {
    quantize(target);
    EXPECT_THAT(written(), UnorderedElementsAre("m.espdl", "m.info", "m.json", "m.options.json"));
    const ProgramResult verified = espq({"verify", out("m.espdl")});
    EXPECT_EQ(verified.exit_code, 0) << verified.out << verified.err;
    EXPECT_THAT(verified.out, HasSubstr("verified on " + target));
  }
}

TEST_F(Program, QuantizedAnswersAreCloseToFloat) {
  quantize();
  // The file wants channels last.
  write_npy(folder_ / "nhwc.npy", read_npy(data("calib/batch_0.npy")).permute({0, 2, 3, 1}));
  const ProgramResult result = espq({"run", out("m.espdl"), "--input", "image=" + (folder_ / "nhwc.npy").string(),
                                     "--out-dir", (folder_ / "results").string()});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const at::Tensor codes = read_npy(folder_ / "results" / "scores_raw.npy");
  ASSERT_EQ(codes.scalar_type(), at::kChar);
  const at::Tensor wanted = read_npy(data("classifier_scores.npy"));
  // The exponent is not in the .npy: codes and floats must be proportional. 8 bits leave about 1 % of noise.
  const at::Tensor a = codes.to(at::kFloat).flatten(), b = wanted.flatten();
  EXPECT_GT((a.dot(b) / (a.norm() * b.norm())).item<float>(), 0.999);
}

TEST_F(Program, VerifyFindsAChangedAnswer) {
  quantize();
  // The recorded output is the only place where these ten codes stand in a row.
  const ProgramResult run = espq({"inspect", out("m.espdl"), "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  write_npy(folder_ / "nhwc.npy", read_npy(data("calib/batch_0.npy")).permute({0, 2, 3, 1}));
  ASSERT_EQ(espq({"run", out("m.espdl"), "--input", "image=" + (folder_ / "nhwc.npy").string(), "--out-dir",
                  (folder_ / "results").string()})
                .exit_code,
            0);
  const at::Tensor codes = read_npy(folder_ / "results" / "scores_raw.npy").contiguous();
  std::string bytes = file_text(out("m.espdl"));
  const std::string recorded(static_cast<const char*>(codes.const_data_ptr()), 10);
  const size_t position = bytes.find(recorded);
  ASSERT_NE(position, std::string::npos);
  bytes[position + 3] = static_cast<char>(bytes[position + 3] ^ 1);
  std::ofstream(folder_ / "changed.espdl", std::ios::binary) << bytes;
  const ProgramResult result = espq({"verify", (folder_ / "changed.espdl").string()});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.out, HasSubstr("1 of 10 elements differ, by up to 1"));
}

TEST_F(Program, EncryptsAndOpensWithTheKey) {
  quantize();
  std::filesystem::rename(out("m.espdl"), folder_ / "plain.espdl");
  const std::string plain = (folder_ / "plain.espdl").string(), key = "000102030405060708090a0b0c0d0e0f";
  auto command = quantize_command();
  command.insert(command.end(), {"--test-input", "image=" + data("calib/batch_0.npy"), "--quiet", "--encrypt", key});
  ASSERT_EQ(espq(command).exit_code, 0);
  EXPECT_EQ(espq({"verify", out("m.espdl"), "--key", key}).exit_code, 0);
  EXPECT_EQ(espq({"diff", plain, out("m.espdl"), "--key", key}).exit_code, 0);
  EXPECT_EQ(espq({"inspect", out("m.espdl"), "--key", key}).exit_code, 0);
  for (const std::vector<std::string>& wrong :
       {std::vector<std::string>{}, {"--key", "ff0102030405060708090a0b0c0d0e0f"}, {"--key", "short"}}) {
    std::vector<std::string> verify = {"verify", out("m.espdl")};
    verify.insert(verify.end(), wrong.begin(), wrong.end());
    const ProgramResult result = espq(verify);
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_THAT(result.err, HasSubstr("key"));
  }
  // Without a key of the user's, the program makes one and says it.
  command.pop_back();
  const ProgramResult random = espq(command);
  ASSERT_EQ(random.exit_code, 0) << random.err;
  const std::string told = random.out.substr(random.out.find(": ") + 2);
  EXPECT_EQ(espq({"verify", out("m.espdl"), "--key", told.substr(0, told.find('\n'))}).exit_code, 0) << random.out;
}

TEST_F(Program, DiffComparesFiles) {
  quantize();
  std::filesystem::copy_file(out("m.espdl"), folder_ / "p4.espdl");
  quantize("esp32s3");
  EXPECT_EQ(espq({"diff", (folder_ / "p4.espdl").string(), (folder_ / "p4.espdl").string()}).exit_code, 0);
  const ProgramResult result = espq({"diff", (folder_ / "p4.espdl").string(), out("m.espdl")});
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_THAT(result.out, Not(IsEmpty()));
}

TEST_F(Program, ComparesFloatWithBoard) {
  quantize();
  const ProgramResult result = espq({"compare", data("classifier.onnx"), out("m.espdl"), "--inputs", data("calib"),
                                     "--batches", "1", "--per-layer", "--json", (folder_ / "c.json").string()});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("first layer with a difference: "));
  const auto json = nlohmann::json::parse(file_text(folder_ / "c.json"));
  EXPECT_TRUE(json["unmatched"].empty());
  EXPECT_EQ(json["batches"], 1);
  // onnxruntime's float scores against the codes that `run` gives.
  write_npy(folder_ / "nhwc.npy", read_npy(data("calib/batch_0.npy")).permute({0, 2, 3, 1}));
  ASSERT_EQ(espq({"run", out("m.espdl"), "--input", "image=" + (folder_ / "nhwc.npy").string(), "--out-dir",
                  (folder_ / "results").string()})
                .exit_code,
            0);
  const auto& output = json["outputs"][0];
  const at::Tensor want = read_npy(data("classifier_scores.npy")).to(at::kDouble);
  const at::Tensor got = read_npy(folder_ / "results" / "scores_raw.npy").to(at::kDouble) *
                         std::ldexp(1.0, output["grid"]["exponent"].get<int>());
  const double noise = ((got - want).square().sum() / want.square().sum()).item<double>();
  EXPECT_NEAR(output["noise_to_signal"].get<double>(), noise, 1e-5 * noise + 1e-9);
  EXPECT_NEAR(output["max_error"].get<double>(), (got - want).abs().max().item<double>(), 1e-5);
}

TEST_F(Program, ComparesOneFileAtTwoPrecisions) {
  quantize();
  const ProgramResult result = espq({"compare", out("m.espdl"), out("m.espdl"), "--inputs", data("calib")});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("inf      0.000000"));
  EXPECT_EQ(espq({"compare", out("m.espdl"), out("m.espdl"), "--precision-a", "simulated", "--inputs", data("calib")})
                .exit_code,
            0);
  std::filesystem::rename(out("m.espdl"), folder_ / "m.espdl");
  std::filesystem::remove_all(folder_ / "out");
  std::filesystem::create_directories(folder_ / "out");
  const std::string model = (folder_ / "m.espdl").string();
  expect_error({"compare", data("classifier.onnx"), model, "--inputs", data("wrong_shape.npy")}, "image");
  expect_error({"compare", data("classifier.onnx"), model, "--inputs", data("calib"), "--precision-a", "board"},
               "classifier.onnx: is a float model");
  expect_error({"compare", data("pair.onnx"), model, "--inputs", data("calib_pair")}, "2 and 1 inputs");
}

TEST_F(Program, QuantizesTheSameWayTwice) {
  quantize();
  const std::string first = file_text(out("m.espdl"));
  quantize();
  EXPECT_TRUE(file_text(out("m.espdl")) == first);
  // The options that it wrote are a recipe for the same file.
  std::filesystem::rename(out("m.options.json"), folder_ / "recipe.json");
  auto command = quantize_command();
  command.insert(command.end(), {"--recipe", (folder_ / "recipe.json").string(), "--test-input",
                                 "image=" + data("calib/batch_0.npy")});
  const ProgramResult result = espq(command);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_TRUE(file_text(out("m.espdl")) == first);
  EXPECT_THAT(result.out, HasSubstr("gemm"));  // the table of layers
}

TEST_F(Program, RecipesHaveNamesAndOptions) {
  const auto file = [&](const std::vector<std::string>& options) {
    auto command = quantize_command();
    command.insert(command.end(), {"--quiet"});
    command.insert(command.end(), options.begin(), options.end());
    const ProgramResult result = espq(command);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return file_text(out("m.options.json"));
  };
  const auto plain = nlohmann::json::parse(file({}));
  EXPECT_EQ(nlohmann::json::parse(file({"--recipe", "default"})), plain);
  EXPECT_TRUE(nlohmann::json::parse(file({"--recipe", "esp-ppq-1.3.12"}))["quirks"]["large_doubles"]);
  const auto set =
      nlohmann::json::parse(file({"--set", "calibration.observer=minmax", "widths.bits=16", "--bits", "8"}));
  EXPECT_EQ(set["calibration"]["observer"], "minmax");
  EXPECT_EQ(set["widths"]["bits"], 8);  // options of their own overrule --set
  std::filesystem::remove_all(folder_ / "out");
  std::filesystem::create_directories(folder_ / "out");
  auto command = quantize_command();
  command.insert(command.end(), {"--set", "calibration.observr=kl"});
  expect_error(command, "did you mean 'observer'");
}

TEST_F(Program, VerboseShowsEveryPassAndWhatItChanged) {
  auto command = quantize_command();
  EXPECT_THAT(espq(command).err, IsEmpty());
  command.emplace_back("-v");
  const ProgramResult result = espq(command);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, ::testing::ContainsRegex("espq: info: calibrate \\([0-9.]+ s\\): activation x [0-9]+ \\("));
  EXPECT_THAT(result.err, ::testing::ContainsRegex("espq: debug: fuse_gelu \\([0-9.]+ s\\): nothing to do"));
}

TEST_F(Program, ImportShowsTheNamesThatRecipesUse) {
  expect_error({"import", data("classifier_dynamic.onnx")}, "image");
  const ProgramResult result = espq({"import", data("classifier.onnx"), "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto prepared = nlohmann::json::parse(result.out)["operations"];
  ASSERT_FALSE(prepared.empty());
  for (const auto& operation : prepared) {
    auto command = quantize_command();
    const std::string name = operation["name"];
    command.insert(command.end(), {"--quiet", "--set", "layers." + name + ".width=int8"});
    EXPECT_EQ(espq(command).exit_code, 0) << name;
  }
  const auto imported = nlohmann::json::parse(espq({"import", data("classifier.onnx"), "--as-imported", "--json"}).out);
  EXPECT_GE(imported["operations"].size(), prepared.size());
}

TEST_F(Program, BindsDynamicShapes) {
  expect_error(
      {"quantize", data("classifier_dynamic.onnx"), "--target", "c", "--calib", data("calib"), "--out", out("m.espdl")},
      "image");
  const ProgramResult result = espq({"quantize", data("classifier_dynamic.onnx"), "--target", "c", "--input-shape",
                                     "image=1x3x8x8", "--calib", data("calib"), "--out", out("m.espdl")});
  EXPECT_EQ(result.exit_code, 0) << result.err;
}

TEST_F(Program, TakesSeveralInputs) {
  const ProgramResult result =
      espq({"quantize", data("pair.onnx"), "--target", "esp32s3", "--calib", data("calib_pair"), "--test-input",
            "left=" + data("left.npy"), "right=" + data("right.npy"), "--out", out("m.espdl")});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(espq({"verify", out("m.espdl")}).exit_code, 0);
  std::filesystem::remove_all(folder_ / "out");
  std::filesystem::create_directories(folder_ / "out");
  expect_error({"quantize", data("pair.onnx"), "--target", "esp32s3", "--calib", data("calib_pair"), "--test-input",
                "left=" + data("left.npy"), "--out", out("m.espdl")},
               "right");
}

TEST_F(Program, TakesExponentsFromAFile) {
  ASSERT_EQ(espq(quantize_command()).exit_code, 0);
  const std::string first = (folder_ / "first.espdl").string(), json = (folder_ / "first.json").string();
  std::filesystem::rename(out("m.espdl"), first);
  std::filesystem::rename(out("m.json"), json);
  const std::vector<std::string> command = {"quantize", data("classifier.onnx"), "--target", "esp32p4",
                                            "--out",    out("m.espdl"),          "--quiet"};
  auto loading = command;
  loading.insert(loading.end(), {"--load-quantization", json});
  const ProgramResult result = espq(loading);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(espq({"diff", first, out("m.espdl")}).exit_code, 0);
  EXPECT_EQ(file_text(out("m.json")), file_text(json));
  EXPECT_EQ(espq(command).exit_code, 2) << "neither data nor a file";
}

TEST_F(Program, QuantizesOnDrawnInputsAndSaysSo) {
  const auto file = [&](const std::string& form, const std::string& seed) {
    const ProgramResult result = espq({"quantize", data("classifier.onnx"), "--target", "c", "--calib-random", form,
                                       "--steps", "3", "--seed", seed, "--out", out("m.espdl"), "--quiet"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.err, HasSubstr("calibrated on 3 batches of drawn inputs"));
    return file_text(out("m.json"));
  };
  const std::string normal = file("normal", "1");
  EXPECT_EQ(file("normal", "1"), normal);
  EXPECT_THAT(espq({"inspect", out("m.espdl")}).out, HasSubstr("calibration = drawn inputs"));
  EXPECT_NE(file("0..1000", "1"), normal);
  EXPECT_EQ(
      espq({"quantize", data("classifier.onnx"), "--target", "c", "--calib-random", "1..0", "--out", "o"}).exit_code,
      2);
  const ProgramResult mirrored = espq({"quantize", data("classifier.onnx"), "--target", "c", "--calib", data("calib"),
                                       "--mirror", "nchw", "--out", out("mirrored.espdl")});
  EXPECT_EQ(mirrored.exit_code, 0) << mirrored.err;
  // There is nothing to be seen in a mirror.
  EXPECT_EQ(espq({"quantize", data("classifier.onnx"), "--target", "c", "--calib-random", "normal", "--mirror", "nchw",
                  "--out", out("o.espdl")})
                .exit_code,
            2);
  // What BatchNormalizations remember is not there any more, or nothing is drawn.
  const ProgramResult folded = espq({"quantize", data("classifier.onnx"), "--target", "c", "--calib-random", "normal",
                                     "--distill", "5", "--out", out("o.espdl")});
  EXPECT_EQ(folded.exit_code, 1);
  EXPECT_THAT(folded.err, HasSubstr("no BatchNormalization"));
  EXPECT_EQ(espq({"quantize", data("classifier.onnx"), "--target", "c", "--calib", data("calib"), "--distill", "5",
                  "--out", out("o.espdl")})
                .exit_code,
            2);
}

TEST_F(Program, RandomTestValuesFollowTheSeed) {
  const auto file = [&](const std::string& seed) {
    auto command = quantize_command();
    command.insert(command.end(), {"--test-values", "random", "--seed", seed, "--quiet"});
    EXPECT_EQ(espq(command).exit_code, 0);
    return file_text(out("m.espdl"));
  };
  const std::string first = file("1");
  EXPECT_EQ(espq({"verify", out("m.espdl")}).exit_code, 0);
  EXPECT_TRUE(file("1") == first);
  EXPECT_FALSE(file("2") == first);
}

TEST_F(Program, InspectAndOpsGiveJson) {
  quantize();
  const ProgramResult inspected = espq({"inspect", out("m.espdl"), "--json"});
  ASSERT_EQ(inspected.exit_code, 0) << inspected.err;
  EXPECT_TRUE(nlohmann::json::accept(inspected.out));
  EXPECT_THAT(espq({"inspect", out("m.espdl")}).out, HasSubstr("Gemm"));
  const ProgramResult table = espq({"ops", "--json"});
  ASSERT_EQ(table.exit_code, 0) << table.err;
  EXPECT_GT(nlohmann::json::parse(table.out).size(), 50u);
  EXPECT_THAT(espq({"ops", "--target", "esp32s3"}).out, HasSubstr("half up"));
}

TEST_F(Program, SaysWhichModelIsBad) {
  const auto quantize_model = [&](const std::string& model) -> std::vector<std::string> {
    return {"quantize", model, "--target", "esp32p4", "--calib", data("calib"), "--out", out("m.espdl")};
  };
  expect_error(quantize_model(data("absent.onnx")), "absent.onnx");
  expect_error(quantize_model(data("unknown_operator.onnx")), "Frobnicate");
  const std::string truncated = (folder_ / "truncated.onnx").string();
  copy_damaged(data("classifier.onnx"), truncated, 1000);
  expect_error(quantize_model(truncated), "truncated.onnx");
  expect_error(
      {"quantize", data("classifier.onnx"), "--target", "esp33", "--calib", data("calib"), "--out", out("m.espdl")},
      "esp32p4");  // the list of known names
}

TEST_F(Program, SaysWhichDataIsBad) {
  const auto calibrate = [&](const std::string& calibration) -> std::vector<std::string> {
    return {"quantize", data("classifier.onnx"), "--target", "c", "--calib", calibration, "--out", out("m.espdl")};
  };
  expect_error(calibrate(data("with_nan.npy")), "NaN");
  expect_error(calibrate(data("wrong_shape.npy")), "image");
  expect_error(calibrate(data("absent")), "absent");
  expect_error(calibrate(data("classifier.onnx")), "neither a folder");
  expect_error(calibrate(folder_ / "out"), "holds no .npy");
  expect_error(
      {"run", data("classifier.onnx"), "--input", "picture=" + data("calib/batch_0.npy"), "--out-dir", out("results")},
      "picture");
  std::ofstream(folder_ / "recipe.json") << R"({"alignment": {"concatt": "large"}})";
  auto command = quantize_command();
  command.insert(command.end(), {"--recipe", (folder_ / "recipe.json").string()});
  expect_error(command, "did you mean 'concat'");
  std::ofstream(folder_ / "recipe.json") << "{";
  expect_error(command, "recipe.json");
}

TEST_F(Program, SaysWhichFileIsBad) {
  quantize();
  const std::string good = (folder_ / "good.espdl").string(), bad = (folder_ / "bad.espdl").string();
  std::filesystem::rename(out("m.espdl"), good);
  std::filesystem::remove_all(folder_ / "out");
  std::filesystem::create_directories(folder_ / "out");
  const size_t size = std::filesystem::file_size(good);
  for (size_t keep : {size_t{0}, size_t{3}, size_t{20}, size / 2, size - 1}) {
    copy_damaged(good, bad, keep);
    for (const char* verb : {"inspect", "verify"}) expect_error({verb, bad}, "bad.espdl");
    expect_error({"diff", good, bad}, "bad.espdl");
  }
  expect_error({"verify", good, "--target", "esp33"}, "esp33");
}

TEST_F(Program, LeavesNothingBehindWhenTheOutputCannotBeWritten) {
  auto command = quantize_command();
  command.back() = (folder_ / "absent" / "m.espdl").string();
  expect_error(command, "absent");
  std::filesystem::create_directories(folder_ / "taken.espdl");
  command.back() = (folder_ / "taken.espdl").string();
  expect_error(command, "taken.espdl");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "taken.info"));
}

TEST_F(Program, AnswersHelpWithoutLoadingLibTorch) {
  const ProgramResult result = espq({"--help"});
  EXPECT_EQ(result.exit_code, 0);
  for (const char* verb : {"quantize", "run", "evaluate", "inspect", "diff", "verify", "compare", "ops"})
    EXPECT_THAT(result.out, HasSubstr(verb));
  const std::string dynamic = "readelf -d '" ESPQ_PROGRAM "' | grep -q 'NEEDED.*torch'";
  EXPECT_NE(std::system(dynamic.c_str()), 0);
  EXPECT_EQ(espq({"quantize"}).exit_code, 2);
}

}  // namespace
}  // namespace espq::cli
