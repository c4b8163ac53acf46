#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/data/dataset.h"
#include "tests/cli/program.h"

namespace espq::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

class Evaluate : public ProgramTest {
 protected:
  const std::vector<std::string> kStems = {"batch_0", "batch_1", "batch_2", "batch_3"};

  /// A classifier as an .espdl file outside of the output folder.
  std::string quantized(const std::string& model = "classifier.onnx") const {
    std::string file = (folder_ / (model + ".espdl")).string();
    const ProgramResult result =
        espq({"quantize", data(model), "--target", "esp32p4", "--calib", data("calib"), "--out", file, "--quiet"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return file;
  }
  std::vector<std::string> command(const std::string& model, const std::vector<std::string>& more) const {
    std::vector<std::string> words = {"evaluate", model, "--inputs", data("calib")};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  void evaluate(const std::string& model, const std::vector<std::string>& more) const {
    const ProgramResult result = espq(command(model, more));
    ASSERT_EQ(result.exit_code, 0) << result.err;
  }
  at::Tensor scores(const std::string& folder, const std::string& stem) const {
    return read_npy(out(folder + "/" + stem + "/scores_raw.npy"));
  }
  /// What `espq run` writes for a sample: the codes.
  at::Tensor run(const std::string& model, const std::string& stem) const {
    write_npy(folder_ / "nhwc.npy", read_npy(data("calib/" + stem + ".npy")).permute({0, 2, 3, 1}));
    const ProgramResult result = espq(
        {"run", model, "--input", "image=" + (folder_ / "nhwc.npy").string(), "--out-dir", (folder_ / "run").string()});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return read_npy(folder_ / "run" / "scores_raw.npy");
  }
  /// Of the model's output.
  int exponent(const std::string& model) const {
    const auto json = nlohmann::json::parse(espq({"inspect", model, "--json"}).out);
    return json["outputs"][0]["exponents"][0];
  }
};

TEST_F(Evaluate, FloatModelsAnswerAsInOnnxruntime) {
  evaluate(data("classifier.onnx"), {"--out-dir", out("d")});
  // Sums of 288 float32 products in another order.
  EXPECT_TRUE(at::allclose(scores("d", "batch_0"), read_npy(data("classifier_scores.npy")), 1e-5, 1e-5));
  EXPECT_FALSE(scores("d", "batch_1").equal(scores("d", "batch_0")));
}

TEST_F(Evaluate, FilesAnswerInRealNumbersOrInTheirIntegers) {
  const std::string model = quantized();
  evaluate(model, {"--out-dir", out("real")});
  evaluate(model, {"--out-dir", out("codes"), "--integers"});
  for (const std::string& stem : kStems) {
    const at::Tensor codes = run(model, stem);
    ASSERT_EQ(codes.scalar_type(), at::kChar);
    EXPECT_TRUE(scores("codes", stem).equal(codes));
    EXPECT_EQ(scores("codes", stem).scalar_type(), at::kChar);
    EXPECT_TRUE(scores("real", stem).equal(codes.to(at::kFloat) * std::ldexp(1.0, exponent(model))));
  }
  // Samples in the file's order of dimensions.
  std::filesystem::create_directories(folder_ / "nhwc");
  for (const std::string& stem : kStems)
    write_npy(folder_ / "nhwc" / (stem + ".npy"), read_npy(data("calib/" + stem + ".npy")).permute({0, 2, 3, 1}));
  const ProgramResult turned =
      espq({"evaluate", model, "--inputs", (folder_ / "nhwc").string(), "--chip-layout", "--out-dir", out("turned")});
  ASSERT_EQ(turned.exit_code, 0) << turned.err;
  for (const std::string& stem : kStems) EXPECT_TRUE(scores("turned", stem).equal(scores("real", stem)));
}

TEST_F(Evaluate, AnswersDoNotDependOnThreads) {
  const std::string model = quantized();
  for (const std::string& file : {model, data("classifier.onnx")}) {
    for (const char* threads : {"1", "3"}) evaluate(file, {"--out-dir", out(threads), "--threads", threads});
    for (const std::string& stem : kStems) {
      EXPECT_TRUE(file_text(out("1/" + stem + "/scores_raw.npy")) == file_text(out("3/" + stem + "/scores_raw.npy")));
      EXPECT_FALSE(scores("1", stem).equal(scores("1", stem == "batch_0" ? "batch_1" : "batch_0")));
    }
  }
}

TEST_F(Evaluate, WritesAllOrNothing) {
  std::filesystem::create_directories(folder_ / "samples");
  for (const std::string& stem : kStems)
    std::filesystem::copy_file(data("calib/" + stem + ".npy"), folder_ / "samples" / (stem + ".npy"));
  std::filesystem::copy_file(data("wrong_shape.npy"), folder_ / "samples" / "last.npy");
  const std::vector<std::string> words = {
      "evaluate", data("classifier.onnx"), "--inputs", (folder_ / "samples").string(), "--out-dir", out("d")};
  expect_error(words, "last.npy: input 'image'");  // also: nothing is left in the output folder
  // What was there before stays, beside what is new.
  std::filesystem::create_directories(out("d/batch_0"));
  std::ofstream(out("d/batch_0/note.txt")) << "mine";
  EXPECT_EQ(espq(words).exit_code, 1);
  EXPECT_EQ(std::distance(std::filesystem::recursive_directory_iterator(out("d")), {}), 2);
  std::filesystem::remove(folder_ / "samples" / "last.npy");
  EXPECT_EQ(espq(words).exit_code, 0);
  EXPECT_EQ(file_text(out("d/batch_0/note.txt")), "mine");
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(out("d")))
    names.push_back(entry.path().filename().string());
  EXPECT_THAT(names, UnorderedElementsAre("batch_0", "batch_1", "batch_2", "batch_3"));
}

TEST_F(Evaluate, CountsRightAnswers) {
  // onnxruntime's answer for the first sample is class 9; it has no opinion on the others.
  ASSERT_EQ(read_npy(data("classifier_scores.npy")).argmax().item<int64_t>(), 9);
  std::vector<int64_t> classes;
  evaluate(data("classifier.onnx"), {"--out-dir", (folder_ / "d").string()});
  for (const std::string& stem : kStems)
    classes.push_back(read_npy(folder_ / "d" / stem / "scores_raw.npy").argmax().item<int64_t>());
  const auto accuracy = [&](const std::string& labels) {
    const ProgramResult result =
        espq(command(data("classifier.onnx"), {"--metric", "accuracy", "--labels", labels, "--quiet"}));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.out;
  };
  const std::string text = (folder_ / "labels.txt").string(), json = (folder_ / "labels.json").string(),
                    npy = (folder_ / "labels.npy").string();
  std::ofstream(text) << "# by name, in any order\n\nbatch_3," << classes[3] << "\nbatch_0,9\nbatch_1 "
                      << classes[1] + 1 << "\nbatch_2\t" << classes[2] << "\r\n";
  EXPECT_EQ(accuracy(text), "accuracy: 75.00 %\n");
  std::ofstream(text) << "9\n" << classes[1] << "\n" << classes[2] + 1 << "\n" << classes[3] + 1;
  EXPECT_EQ(accuracy(text), "accuracy: 50.00 %\n");
  std::ofstream(json) << nlohmann::json(classes).dump();
  EXPECT_EQ(accuracy(json), "accuracy: 100.00 %\n");
  std::ofstream(json) << R"({"batch_1": -1, "batch_0": 9, "batch_2": -1, "batch_3": -1})";
  EXPECT_EQ(accuracy(json), "accuracy: 25.00 %\n");
  write_npy(npy, at::full({4}, -1, at::kInt));
  EXPECT_EQ(accuracy(npy), "accuracy: 0.00 %\n");
  // Labels that cannot be.
  const auto refused = [&](const std::string& labels, const std::string& part) {
    expect_error(command(data("classifier.onnx"), {"--metric", "accuracy", "--labels", labels}), part);
  };
  std::ofstream(json) << R"({"batch_1": 0})";
  refused(json, "has no label for sample 'batch_0'");
  std::ofstream(text) << "1\n2\n";
  refused(text, "4 results, but 2");
  std::ofstream(text) << "one\n";
  refused(text, "line 1 does not end in a class number");
  refused(data("classifier_scores.npy"), "labels are integers");
}

TEST_F(Evaluate, MeasuresTheDistanceToAReference) {
  const std::string model = quantized();
  const ProgramResult result = espq(command(
      model, {"--metric", "agreement", "snr", "--reference", data("classifier.onnx"), "--quiet", "--integers"}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  evaluate(data("classifier.onnx"), {"--out-dir", (folder_ / "float").string()});
  double agree = 0, noise = 0;
  for (const std::string& stem : kStems) {
    const at::Tensor want = read_npy(folder_ / "float" / stem / "scores_raw.npy").to(at::kDouble),
                     got = run(model, stem).to(at::kDouble) * std::ldexp(1.0, exponent(model));
    agree += want.argmax().item<int64_t>() == got.argmax().item<int64_t>() ? 25 : 0;
    noise += ((want - got).square().sum() / want.square().sum()).item<double>() / 4;
  }
  double printed = 0, decibel = 0;
  ASSERT_EQ(std::sscanf(result.out.c_str(), "agreement: %lf %%\nsnr: %lf dB\n", &printed, &decibel), 2) << result.out;
  EXPECT_EQ(printed, agree);
  EXPECT_NEAR(decibel, -10 * std::log10(noise), 0.006);
  // A model agrees with itself.
  EXPECT_EQ(espq(command(model, {"--metric", "agreement", "--reference", model, "--quiet"})).out,
            "agreement: 100.00 %\n");
}

/// The file of a network that ends in ArgMax gives scores: the float network is measured in front of the search, too.
TEST_F(Evaluate, NetworksThatEndInASearchAreMeasuredInFrontOfIt) {
  const std::string scores_file = quantized(), class_file = quantized("classifier_class.onnx");
  const auto figures = [&](const std::string& model, const std::string& reference) {
    ProgramResult result = espq(command(model, {"--metric", "agreement", "snr", "--reference", reference, "--quiet"}));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result;
  };
  const ProgramResult plain = figures(scores_file, data("classifier.onnx")),
                      searched = figures(class_file, data("classifier_class.onnx"));
  EXPECT_THAT(plain.out, HasSubstr("snr: "));
  EXPECT_EQ(searched.out, plain.out);
  EXPECT_EQ(plain.err, "");
  EXPECT_THAT(searched.err, HasSubstr("output 'class' is the place of the largest element of 'scores/raw'"));
  for (const char* model : {"classifier.onnx", "classifier_class.onnx"})
    evaluate(data(model), {"--out-dir", out(model)});
  for (const std::string& stem : kStems)
    EXPECT_TRUE(scores("classifier_class.onnx", stem).equal(scores("classifier.onnx", stem)));
}

/// esp-ppq's files say nothing of layouts and hold their outputs in any order.
TEST_F(Evaluate, FilesOfOtherOriginAreComparedInTheFloatModelsLayout) {
  for (const char* network : {"resize_linear", "gru", "reduce_others", "transpose_reshape"}) {
    const std::string folder = data("../peer/") + network;
    const ProgramResult result =
        espq({"evaluate", folder + "/esp32p4_w8a8/peer.espdl", "--target", "esp32p4", "--inputs", folder + "/calib",
              "--metric", "snr", "--reference", folder + "/model.onnx", "--quiet"});
    double decibel = 0;
    ASSERT_EQ(std::sscanf(result.out.c_str(), "snr: %lf dB", &decibel), 1) << network << ": " << result.err;
    EXPECT_GT(decibel, 20) << network << ": what stands elsewhere has no more to do with the reference than noise";
  }
}

TEST_F(Evaluate, ProgramsMeasureTheFolder) {
  const auto metric = [&](const std::string& program) {
    return command(data("classifier.onnx"),
                   {"--out-dir", (folder_ / "a $HOME d").string(), "--quiet", "--metric", program});
  };
  std::ofstream(folder_ / "count.sh") << "find \"$1\" -name 'scores_raw.npy' | wc -l\n";
  const std::string count = "sh " + (folder_ / "count.sh").string();
  EXPECT_EQ(espq(metric(count)).out, count + ": 4\n");
  expect_error(metric("true"), "one number is expected");
  expect_error(metric("false"), "failed (exit code 1)");
}

TEST_F(Evaluate, SaysWhatDoesNotGoTogether) {
  const std::string model = data("classifier.onnx");
  expect_error(command(model, {}), "give --out-dir, --metric, or both");
  expect_error(command(model, {"--metric", "accuracy"}), "give --labels");
  expect_error(command(model, {"--metric", "snr"}), "give --reference");
  expect_error(command(model, {"--metric", "./measure"}), "give --out-dir");
  expect_error(command(model, {"--out-dir", out("d"), "--labels", "l.txt"}), "--labels is for");
  expect_error(command(model, {"--out-dir", out("d"), "--reference", model}), "--reference is for");
  expect_error(command(model, {"--out-dir", out("d"), "--integers"}), "is a float model");
  expect_error(command(model, {"--out-dir", out("d"), "--precision", "board"}), "is a float model");
  expect_error(
      {"evaluate", model, "--out-dir", out("d"), "--inputs", data("calib/batch_0.npy"), data("calib/batch_0.npy")},
      "two samples are called 'batch_0'");
}

}  // namespace
}  // namespace espq::cli
