#include "cli/parse.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

namespace espq::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::variant<CommandLine, int> parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "espq");
  return parse_command_line(static_cast<int>(arguments.size()), arguments.data());
}

template <typename Verb>
Verb command(const std::vector<const char*>& arguments) {
  return std::get<Verb>(std::get<CommandLine>(parse(arguments)).command);
}

/// What a refused command line prints.
std::string usage_error(const std::vector<const char*>& arguments) {
  ::testing::internal::CaptureStderr();
  const auto result = parse(arguments);
  std::string text = ::testing::internal::GetCapturedStderr();
  EXPECT_TRUE(std::holds_alternative<int>(result) && std::get<int>(result) == kUsage);
  return text;
}

TEST(ParseCommandLine, Quantize) {
  const auto quantize = command<QuantizeCommand>({"quantize", "m.onnx",        "--target",    "esp32p4", "--bits",
                                                  "16",       "--calib",       "a",           "b.npy",   "--steps",
                                                  "5",        "--input-shape", "x=1x3x48x48", "y=1",     "--recipe",
                                                  "r.json",   "--test-values", "random",      "--seed",  "7",
                                                  "--out",    "o.espdl"});
  EXPECT_EQ(quantize.model, "m.onnx");
  EXPECT_EQ(quantize.target, "esp32p4");
  EXPECT_EQ(quantize.bits, 16);
  EXPECT_THAT(quantize.calibration, ElementsAre("a", "b.npy"));
  EXPECT_EQ(quantize.steps, 5);
  ASSERT_EQ(quantize.input_shapes.size(), 2u);
  EXPECT_EQ(quantize.input_shapes[0].name, "x");
  EXPECT_THAT(quantize.input_shapes[0].dims, ElementsAre(1, 3, 48, 48));
  EXPECT_THAT(quantize.input_shapes[1].dims, ElementsAre(1));
  EXPECT_EQ(quantize.recipe.recipe, "r.json");
  EXPECT_TRUE(quantize.recipe.settings.empty());
  EXPECT_TRUE(quantize.random_test_values);
  EXPECT_EQ(quantize.seed, 7u);
  EXPECT_EQ(quantize.out, "o.espdl");
}

TEST(ParseCommandLine, VerbsThatConvertTakeARecipe) {
  const RecipeChoice recipe =
      command<ImportCommand>({"import", "m.onnx", "--recipe", "esp-ppq-1.3.12", "--set", "calibration.steps=3",
                              "layers.a=b.width=int16", "--set", "tables=null"})
          .recipe;
  EXPECT_EQ(recipe.recipe, "esp-ppq-1.3.12");
  EXPECT_THAT(recipe.settings, ElementsAre("calibration.steps=3", "layers.a=b.width=int16", "tables=null"));
  EXPECT_THAT(command<CompareCommand>({"compare", "a", "b", "--inputs", "c", "--set", "simplify=null"}).recipe.settings,
              ElementsAre("simplify=null"));
}

TEST(ParseCommandLine, EveryVerbCanBeVerbose) {
  for (const char* flag : {"-v", "--verbose"})
    EXPECT_TRUE(std::get<CommandLine>(parse({"inspect", "m.espdl", flag})).verbose) << flag;
  EXPECT_FALSE(std::get<CommandLine>(parse({"inspect", "m.espdl"})).verbose);
}

TEST(ParseCommandLine, RunTakesSeveralInputs) {
  const auto run = command<RunCommand>(
      {"run", "m.espdl", "--input", "a=1.npy", "b=dir/x=y.npy", "--input", "c=3.npy", "--out-dir", "d"});
  ASSERT_EQ(run.inputs.size(), 3u);
  EXPECT_EQ(run.inputs[1].name, "b");
  EXPECT_EQ(run.inputs[1].file, "dir/x=y.npy");
  EXPECT_EQ(run.inputs[2].name, "c");
  EXPECT_EQ(run.precision, "");
}

TEST(ParseCommandLine, Evaluate) {
  const auto evaluate = command<EvaluateCommand>(
      {"evaluate", "m.espdl", "--inputs", "d", "--out-dir", "o", "--integers", "--threads", "3", "--metric", "snr",
       "accuracy", "--labels", "l.txt", "--reference", "m.onnx", "--precision", "simulated"});
  EXPECT_EQ(evaluate.model, "m.espdl");
  EXPECT_THAT(evaluate.inputs, ElementsAre("d"));
  EXPECT_EQ(evaluate.out_dir, "o");
  EXPECT_TRUE(evaluate.integers);
  EXPECT_FALSE(evaluate.chip_layout);
  EXPECT_EQ(evaluate.threads, 3u);
  EXPECT_THAT(evaluate.metrics, ElementsAre("snr", "accuracy"));
  EXPECT_EQ(evaluate.labels, "l.txt");
  EXPECT_EQ(evaluate.reference, "m.onnx");
  EXPECT_EQ(evaluate.precision, "simulated");
  EXPECT_THAT(usage_error({"evaluate", "m", "--inputs", "d", "--threads", "0"}), HasSubstr("--threads"));
}

TEST(ParseCommandLine, VerbsThatTakeDataTakeImages) {
  const auto options = [](std::vector<const char*> verb) {
    verb.insert(verb.end(), {"--resize", "256", "--crop", "224", "--mean", "1.5", "2", "-3", "--scale", "1/4",
                             "--color", "bgr", "--layout", "nhwc"});
    return verb;
  };
  const ImageOptions want{.resize_shorter = 256,
                          .crop = PixelSize{224, 224},
                          .mean = {1.5, 2, -3},
                          .scale = {0.25},
                          .color = ImageOptions::Color::Bgr,
                          .channels_last = true};
  const auto quantize = command<QuantizeCommand>(
      options({"quantize", "m", "--target", "c", "--out", "o", "--calib", "d", "--batch-size", "8"}));
  EXPECT_EQ(quantize.data.image, want);
  EXPECT_EQ(quantize.data.batch, 8);
  EXPECT_EQ(command<CompareCommand>(options({"compare", "a", "b", "--inputs", "d"})).data.image, want);
  EXPECT_EQ(command<EvaluateCommand>(options({"evaluate", "m", "--inputs", "d"})).data.image, want);
  EXPECT_EQ(command<RunCommand>(options({"run", "m", "--input", "x=f.png", "--out-dir", "o"})).data.image, want);
  const auto image = command<EvaluateCommand>({"evaluate", "m", "--inputs", "d", "--resize", "320x240"}).data.image;
  EXPECT_EQ(image.resize, (PixelSize{320, 240}));
  EXPECT_FALSE(image.resize_shorter);
  EXPECT_EQ(command<EvaluateCommand>({"evaluate", "m", "--inputs", "d", "--letterbox", "64"}).data.image.letterbox,
            (PixelSize{64, 64}));
  const auto refused = [](const char* option, const char* value) {
    return usage_error({"evaluate", "m", "--inputs", "d", option, value});
  };
  for (const char* size : {"0", "12x", "x12", "12x-3", "big", "9999999"})
    EXPECT_THAT(refused("--resize", size), HasSubstr("is no size in pixels")) << size;
  for (const char* number : {"one", "1/", "/2", "inf", "1e999"})
    EXPECT_THAT(refused("--scale", number), HasSubstr("is no number")) << number;
  EXPECT_THAT(refused("--scale", "1/0"), HasSubstr("divides by 0"));
  EXPECT_THAT(usage_error({"evaluate", "m", "--inputs", "d", "--letterbox", "8", "--crop", "8"}),
              HasSubstr("excludes"));
}

TEST(ParseCommandLine, Compare) {
  const auto compare = command<CompareCommand>({"compare", "m.onnx", "m.espdl", "--inputs", "d", "e.npz", "--batches",
                                                "3", "--precision-b", "simulated", "--per-layer", "--json", "o.json"});
  EXPECT_EQ(compare.first, "m.onnx");
  EXPECT_EQ(compare.second, "m.espdl");
  EXPECT_THAT(compare.inputs, ElementsAre("d", "e.npz"));
  EXPECT_EQ(compare.batches, 3);
  EXPECT_EQ(compare.first_precision, "");
  EXPECT_EQ(compare.second_precision, "simulated");
  EXPECT_TRUE(compare.per_layer);
  EXPECT_EQ(compare.json, "o.json");
}

TEST(ParseCommandLine, OtherVerbs) {
  EXPECT_TRUE(command<InspectCommand>({"inspect", "m.espdl", "--json"}).json);
  EXPECT_EQ(command<DiffCommand>({"diff", "a", "b"}).second, "b");
  EXPECT_EQ(command<VerifyCommand>({"verify", "a", "--target", "c"}).target, "c");
  EXPECT_EQ(command<OpsCommand>({"ops"}).target, "");
}

TEST(ParseCommandLine, ExplainsWrongUse) {
  EXPECT_THAT(usage_error({}), HasSubstr("subcommand is required"));
  EXPECT_THAT(usage_error({"quantise"}), HasSubstr("espq:"));
  EXPECT_THAT(usage_error({"quantize", "m.onnx"}), HasSubstr("--target is required"));
  EXPECT_THAT(usage_error({"compare", "a", "b"}), HasSubstr("--inputs is required"));
  EXPECT_THAT(usage_error({"diff", "a"}), HasSubstr("B.espdl is required"));
  EXPECT_THAT(usage_error({"quantize", "m", "--target", "c", "--calib", "d", "--out", "o", "--bits", "4"}),
              HasSubstr("--bits"));
  EXPECT_THAT(usage_error({"quantize", "m", "--target", "c", "--calib", "d", "--out", "o", "--test-values", "random",
                           "--test-input", "x=f"}),
              HasSubstr("excludes"));
  EXPECT_THAT(usage_error({"run", "m", "--input", "nofile", "--out-dir", "d"}), HasSubstr("is not NAME=FILE.npy"));
  EXPECT_THAT(usage_error({"run", "m", "--input", "x=f", "--out-dir", "d", "--precision", "double"}),
              HasSubstr("--precision"));
}

TEST(ParseNamedShape, RefusesWhatIsNoShape) {
  EXPECT_THAT(parse_named_shape("a=b=2x3").dims, ElementsAre(2, 3));
  EXPECT_EQ(parse_named_shape("a=b=2x3").name, "a=b");
  for (const char* text :
       {"x", "=1x2", "x=", "x=1x", "x=x1", "x=0", "x=-1x2", "x=1,2", "x=1x2y", "x=99999999999999999999"})
    EXPECT_THROW(parse_named_shape(text), std::invalid_argument) << text;
}

}  // namespace
}  // namespace espq::cli
