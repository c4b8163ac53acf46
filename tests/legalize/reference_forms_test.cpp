// Networks of the collection that the chip library would misread, and networks of public bug reports: on every chip
// the integers of the chip graph come as close to the float network, as imported, as their width allows, or the
// conversion refuses them by the operation's name.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/exec/executor.h"
#include "core/exec/float_layout.h"
#include "core/support/error.h"
#include "core/support/file.h"
#include "onnx_frontend/onnx_frontend.h"
#include "passes/pipeline/convert.h"
#include "tests/reference_data.h"
#include "torch_frontend/torch_frontend.h"

namespace espq {
namespace {

namespace fs = std::filesystem;

/// Signal over noise of the output that has the least, in decibels.
double signal_to_noise(const Graph& network, const Graph& chip, const Dataset& data) {
  Executor reference(network, Precision::Float), board(chip, Precision::Board);
  std::vector<double> signal(network.outputs().size()), noise(network.outputs().size());
  for (size_t batch = 0; batch < data.size(); ++batch) {
    const Tensors inputs = data.inputs(network, batch);
    const Tensors want = reference.run(inputs), got = run_in_float_layout(board, chip, inputs);
    for (size_t i = 0; i < want.size(); ++i) {
      const at::Tensor wanted = want[i].to(at::kDouble);
      signal[i] += wanted.square().sum().item<double>();
      noise[i] += (got[i].to(at::kDouble).reshape_as(wanted) - wanted).square().sum().item<double>();
    }
  }
  double least = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < signal.size(); ++i) least = std::min(least, 10 * std::log10(signal[i] / noise[i]));
  return least;
}

Graph import_model(const fs::path& file, const std::map<std::string, Shape>& shapes) {
  return file.extension() == ".onnx" ? import_onnx(file, {.input_shapes = shapes})
                                     : import_torch(file, {.input_shapes = shapes});
}

Shape to_shape(const std::string& text) {
  Shape shape;
  std::stringstream stream(text);
  for (std::string length; std::getline(stream, length, 'x');) shape.push_back(std::stoll(length));
  return shape;
}

TEST(ReferenceForms, TrapsOfTheLibraryAreAvoided) {
  const fs::path folder = reference_collection("chip_traps");
  if (!fs::exists(folder)) GTEST_SKIP() << folder << " is not there; tests/legalize/rewrites_test.cpp has these forms";
  int converted = 0;
  for (const auto& entry : nlohmann::json::parse(read_file(folder / "manifest.json"))) {
    const std::string id = entry["id"];
    const Graph network = import_onnx(folder / id / "model.onnx");
    const Dataset data = Dataset::open({folder / id / "calib"});
    for (const char* target : {"esp32p4", "esp32s3", "c"})
      for (const int bits : {8, 16}) {
        Recipe recipe;
        recipe.target = target;
        recipe.widths.bits = bits;
        try {
          // One operation of 8 bits on normally distributed data: 30 dB and more; tables and 8-bit kernels in networks
          // of 16 bits (Resize, GRU's gates) leave 37 dB.
          EXPECT_GT(signal_to_noise(network, convert(network, data, recipe).chip, data), bits == 8 ? 30 : 37)
              << id << " " << target << " " << bits;
          ++converted;
        } catch (const UserError& error) {
          EXPECT_NE(std::string(error.what()).find("cannot run on"), std::string::npos) << id << ": " << error.what();
        }
      }
  }
  EXPECT_GE(converted, 100);
}

TEST(ReferenceForms, ReportedNetworksComeOutRight) {
  const fs::path folder = reference_collection("reported_cases");
  if (!fs::exists(folder))
    GTEST_SKIP() << folder << " is not there; tests/legalize and tests/quantize have these forms";
  for (const auto& entry : nlohmann::json::parse(read_file(folder / "manifest.json"))) {
    const std::string id = entry["id"];
    const auto& want = entry["want"];
    std::map<std::string, Shape> shapes;
    if (entry.contains("input_shapes"))
      for (const auto& [name, shape] : entry["input_shapes"].items()) shapes[name] = to_shape(shape);
    for (const std::string target : entry["targets"])
      for (const int bits : entry["bits"]) {
        const std::string run = fmt::format("{} {} {}", id, target, bits);
        Recipe recipe =
            entry.contains("recipe") ? read_recipe(folder / id / entry["recipe"].get<std::string>()) : Recipe();
        recipe.target = target;
        recipe.widths.bits = bits;
        try {
          const Graph network = import_model(folder / id / entry["model"].get<std::string>(), shapes);
          const Conversion made = convert(network, Dataset::open({folder / id / "calib"}), recipe);
          EXPECT_FALSE(want.value("refused", false)) << run;
          EXPECT_GE(signal_to_noise(network, made.chip, Dataset::open({folder / id / "test"})),
                    want.value("snr_at_least", 0.0))
              << run;
        } catch (const UserError& error) {
          EXPECT_TRUE(want.value("refused", false) || want.value("or_refused", false)) << run << ": " << error.what();
        }
      }
  }
}

}  // namespace
}  // namespace espq
