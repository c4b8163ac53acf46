// Networks of Keras, TensorFlow, TFLite and PaddlePaddle, as their converters wrote them (docs/other_frameworks.md),
// against what the frameworks themselves answered.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/data/dataset.h"
#include "core/exec/executor.h"
#include "core/exec/float_layout.h"
#include "export/conversion/verify.h"
#include "onnx_frontend/onnx_frontend.h"
#include "passes/pipeline/check.h"
#include "passes/pipeline/write.h"
#include "tests/reference_data.h"
#include "tests/temporary_folder.h"

namespace espq {
namespace {

using test::TemporaryFolder;

struct Network {
  const char* name;
  /// In the file for the chip: those that move elements and that no layout makes needless.
  int transposes;
  /// Outputs against the framework's at 8 and 16 bits: some 3 dB less than the worse chip has.
  double at_8_bits, at_16_bits;
};

class OtherFrameworks : public testing::TestWithParam<Network> {
 protected:
  std::filesystem::path folder() const {
    return std::filesystem::path(ESPQ_TEST_DATA) / "other_frameworks" / GetParam().name;
  }
  Dataset calibration() const { return Dataset::open({folder() / "calib"}); }
  at::Tensor answer(size_t batch, size_t output) const {
    return read_npy(folder() / "answers" / fmt::format("{}_{}.npy", batch, output));
  }
};

/// An output of a chip graph as real numbers in the order of the float network's dimensions.
at::Tensor chip_answer(const Variable& output, const at::Tensor& stored) {
  return from_chip_layout(output, real_values(output, stored)).to(at::kDouble);
}

double decibel(double signal, double noise) { return 10 * std::log10(signal / std::max(noise, 1e-30)); }

TEST_P(OtherFrameworks, FloatIsWhatTheFrameworkComputes) {
  at::set_num_threads(1);
  const Graph graph = import_onnx(folder() / "model.onnx");
  const Dataset data = calibration();
  ASSERT_GE(data.size(), 2u);
  for (size_t batch = 0; batch < data.size(); ++batch) {
    const Tensors got = Executor(graph, Precision::Float).run(data.inputs(graph, batch));
    for (size_t i = 0; i < got.size(); ++i) {
      const at::Tensor want = answer(batch, i);
      ASSERT_EQ(got[i].sizes(), want.sizes());
      EXPECT_LT((got[i] - want).abs().max().item<float>(), 1e-5 * std::max(1.0F, want.abs().max().item<float>()));
    }
  }
}

TEST_P(OtherFrameworks, ChipComputesWhatTheFrameworkDoes) {
  at::set_num_threads(1);
  const TemporaryFolder temporary;
  const Graph graph = import_onnx(folder() / "model.onnx");
  const Dataset data = calibration();
  for (const char* target : {"esp32p4", "esp32s3"})
    for (const int bits : {8, 16}) {
      SCOPED_TRACE(fmt::format("{} at {} bits", target, bits));
      Recipe recipe;
      recipe.target = target;
      recipe.widths.bits = bits;
      EXPECT_FALSE(cannot_run(check_network(graph, recipe)));
      const Conversion made = convert(graph, data, recipe);
      int transposes = 0;
      for (const Operation* operation : made.chip.operations()) transposes += operation->type() == "Transpose";
      EXPECT_EQ(transposes, GetParam().transposes);

      double signal = 0, noise = 0;
      for (size_t batch = 0; batch < data.size(); ++batch) {
        const NamedTensors inputs{{graph.inputs()[0]->name(), data.inputs(graph, batch).at(0)}};
        if (batch == 0) {
          const std::filesystem::path file = temporary / "network.espdl";
          export_espdl(made, inputs, file);
          EXPECT_NO_THROW(require_verified(file, find_target(target)));
        }
        const TestValues board = answers(made, inputs);
        for (size_t i = 0; i < board.outputs.size(); ++i) {
          const at::Tensor want = answer(batch, i).to(at::kDouble);
          const at::Tensor got = chip_answer(*made.chip.outputs()[i], board.outputs[i].second);
          ASSERT_EQ(got.sizes(), want.sizes());
          signal += want.square().sum().item<double>();
          noise += (got - want).square().sum().item<double>();
        }
      }
      const double measured = decibel(signal, noise);
      fmt::print("{:24} {} {:2} bits: {:2} operations, {:.1f} dB\n", GetParam().name, target, bits,
                 made.chip.operations().size(), measured);
      EXPECT_GT(measured, bits == 8 ? GetParam().at_8_bits : GetParam().at_16_bits);
    }
}

// In the attention network heads are taken apart three times, one of them turned (and brought into the blocks that
// MatMul reads), and put together; paddle_recognizer reads its map column by column.
const Network kNetworks[] = {
    {"keras_separable", 0, 45, 92},         {"keras_speech", 0, 29, 75},     {"keras_residual", 0, 26, 53},
    {"keras_autoencoder", 0, 29, 78},       {"keras_recurrent", 0, 21, 49},  {"keras_attention", 6, 29, 64},
    {"tensorflow_segmentation", 0, 39, 53}, {"tflite_separable", 0, 45, 92}, {"tflite_residual", 0, 27, 73},
    {"tflite_autoencoder", 0, 29, 78},      {"paddle_mobile", 0, 53, 86},    {"paddle_recognizer", 1, 28, 76},
};

INSTANTIATE_TEST_SUITE_P(Networks, OtherFrameworks, testing::ValuesIn(kNetworks),
                         [](const auto& test) { return std::string(test.param.name); });

/// A folder that no test reads proves nothing.
TEST(OtherFrameworksData, EveryNetworkIsTested) {
  size_t folders = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(ESPQ_TEST_DATA) / "other_frameworks"))
    folders += std::filesystem::exists(entry.path() / "model.onnx");
  EXPECT_EQ(folders, std::size(kNetworks));
}

}  // namespace
}  // namespace espq
