// The classic example of this field, complete: LibTorch trains two small networks, espq turns them into files for two
// chips, and the PC computes what the chips will answer.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <spdlog/spdlog.h>

#include <iostream>

#include "core/analysis/error_analysis.h"
#include "core/exec/float_layout.h"
#include "core/support/error.h"
#include "export/conversion/verify.h"
#include "export/onnx/onnx_export.h"
#include "onnx_frontend/onnx_frontend.h"
#include "passes/pipeline/write.h"
#include "samples/training.h"

namespace espq::samples {
namespace {

constexpr size_t kTableRows = 8;

/// How good outputs are: a text for people.
using Judge = std::string (*)(const at::Tensor& outputs, const TrainedNetwork& network);

std::string judge_sine(const at::Tensor& outputs, const TrainedNetwork& network) {
  const at::Tensor error = (outputs - network.test_targets).abs();
  return fmt::format("mean error {:.4f}, largest {:.4f}", error.mean().item<double>(), error.max().item<double>());
}

std::string judge_digits(const at::Tensor& outputs, const TrainedNetwork& network) {
  const at::Tensor answers = outputs.argmax(1);
  const double count = static_cast<double>(answers.numel());
  const auto percent = [&](const at::Tensor& wanted) {
    return 100.0 * static_cast<double>(answers.eq(wanted).sum().item<int64_t>()) / count;
  };
  return fmt::format("accuracy {:.2f} % of {} images, same answer as float for {:.2f} %", percent(network.test_targets),
                     answers.numel(), percent(network.test_outputs.argmax(1)));
}

void quantize_for(const std::string& chip, const std::filesystem::path& model, const TrainedNetwork& network,
                  Judge judge) {
  Recipe recipe;
  recipe.target = chip;
  const Conversion made = convert(import_onnx(model), network.calibration, recipe);

  std::filesystem::path file = model;
  file.replace_filename(chip + ".espdl");
  export_espdl(made, {{made.chip.inputs()[0]->name(), network.test_inputs.slice(0, 0, 1)}}, file);
  require_verified(file, find_target(chip));

  Executor board(made.chip, Precision::Board);
  std::cout << fmt::format("\n{} (8 bit, Board precision): {}\n", chip,
                           judge(run_in_float_layout(board, made.chip, {network.test_inputs})[0], network));
  std::cout << fmt::format("{}: {} bytes, verified\n", file.string(), std::filesystem::file_size(file));
  const ErrorAnalysisOptions analysis;
  std::cout << to_text(graphwise_errors(made.quantized, network.calibration, analysis), analysis.measure, kTableRows);
}

/// The calibration batches as files, so that the tool and the benchmarks can be tried on the same network.
void write_calibration(const std::filesystem::path& folder, const Dataset& data) {
  std::filesystem::create_directories(folder);
  for (size_t i = 0; i < data.size(); ++i) write_npy(folder / fmt::format("batch_{:03}.npy", i), data[i].at(""));
}

void show(const std::string& title, const std::filesystem::path& model, const TrainedNetwork& network, Judge judge) {
  write_calibration(model.parent_path() / "calib", network.calibration);
  export_onnx(network.graph, model);
  std::cout << fmt::format("\n=== {}\n{}: {} bytes\nfloat (LibTorch): {}\n", title, model.string(),
                           std::filesystem::file_size(model), judge(network.test_outputs, network));
  for (const char* chip : {"esp32p4", "esp32s3"}) quantize_for(chip, model, network, judge);
}

int run(const std::filesystem::path& folder) {
  show("sine: a perceptron (1-32-32-1) learns sin(x), x in [0, 2 pi]", folder / "sine" / "model.onnx", train_sine(),
       judge_sine);
  show("digits: a convolutional network reads 8x8 handwritten digits", folder / "digits" / "model.onnx",
       train_digits(ESPQ_DIGITS_FILE), judge_digits);
  return 0;
}

}  // namespace
}  // namespace espq::samples

int main(int argc, char** argv) {
  at::set_num_threads(1);                  // networks of this size gain nothing from a second thread
  spdlog::set_level(spdlog::level::warn);  // what every pass did is more than a demo should print
  try {
    return espq::samples::run(argc > 1 ? argv[1] : "out/demo");
  } catch (const espq::UserError& error) {
    std::cerr << "demo: error: " << error.what() << "\n";
    return 1;
  }
}
