// Quantization-aware training with a loop of one's own: LibTorch's optimizer, espq's network.
//   qat_digits [FOLDER [EPOCHS]]      (docs/qat.md)
#include <ATen/Parallel.h>
#include <spdlog/spdlog.h>
#include <torch/nn/functional/loss.h>
#include <torch/optim/adam.h>

#include <iostream>
#include <numbers>

#include "export/conversion/recipe.h"
#include "export/conversion/test_values.h"
#include "export/conversion/verify.h"
#include "export/export.h"
#include "passes/pipeline.h"
#include "qat/training.h"
#include "samples/training.h"

namespace espq::samples {
namespace {

/// Answers of the chip, one image after the other: its graph has a fixed batch size.
at::Tensor answers_on_board(const Graph& quantized, const at::Tensor& images) {
  const Graph chip = lower(quantized);
  Executor executor(chip, Precision::Board);
  Tensors rows;
  for (int64_t row = 0; row < images.size(0); ++row)
    rows.push_back(executor.run({to_chip_layout(*chip.inputs[0], images.slice(0, row, row + 1))})[0]);
  return at::cat(rows).argmax(1);
}

struct Score {
  double simulated, board;  ///< percent right
  int64_t different;        ///< images that the two precisions answer differently
};

Score score(const Graph& quantized, const Digits& digits) {
  const at::Tensor simulated = Executor(quantized, Precision::Simulated).run(Tensors{digits.test_images})[0].argmax(1);
  const at::Tensor board = answers_on_board(quantized, digits.test_images);
  const auto percent = [&](const at::Tensor& answers) {
    return 100 * answers.eq(digits.test_labels).to(at::kDouble).mean().item<double>();
  };
  return {percent(simulated), percent(board), simulated.ne(board).sum().item<int64_t>()};
}

/// The loop: what a user writes.
Graph train(const Graph& quantized, const Digits& digits, int64_t epochs) {
  TrainableGraph network(quantized);
  const double rate = 2e-3;
  torch::optim::Adam optimizer(network.parameters(), torch::optim::AdamOptions(rate));
  MovingAverage average(network, 0.99);
  BatchOrder order(digits.train_images.size(0), 32, 1);
  const int64_t steps = epochs * order.batches_per_epoch();
  for (int64_t step = 0; step < steps; ++step) {
    static_cast<torch::optim::AdamOptions&>(optimizer.param_groups()[0].options())
        .lr(0.5 * rate * (1 + std::cos(std::numbers::pi * static_cast<double>(step) / static_cast<double>(steps))));
    const at::Tensor rows = order.batch(step);
    optimizer.zero_grad();
    const at::Tensor scores = network.forward({digits.train_images.index_select(0, rows)})[0];
    torch::nn::functional::cross_entropy(scores, digits.train_labels.index_select(0, rows)).backward();
    optimizer.step();
    average.update();
  }
  average.exchange();
  return network.graph();
}

void write_verified(const Graph& quantized, const Digits& digits, const std::filesystem::path& file) {
  const Graph chip = lower(quantized);
  export_espdl(chip, record_test_values(chip, {{quantized.inputs[0]->name(), digits.test_images.slice(0, 0, 1)}}),
               file);
  require_verified(file, *quantized.target);
}

int run(const std::filesystem::path& folder, int64_t epochs) {
  std::filesystem::create_directories(folder);
  const Digits digits = load_digits(ESPQ_DIGITS_FILE);
  const TrainedNetwork network = train_small_digits(digits, 20);
  const double baseline =
      100 * network.test_outputs.argmax(1).eq(digits.test_labels).to(at::kDouble).mean().item<double>();
  std::cout << fmt::format("accuracy on {} images, float {:.2f} %\n{:<10}{:>16}{:>12}{:>16}{:>12}{:>12}\n",
                           digits.test_labels.numel(), baseline, "", "PTQ simulated", "PTQ board", "QAT simulated",
                           "QAT board", "different");
  for (const char* target : {"esp32p4", "esp32s3"}) {
    Graph quantized = network.graph.clone();
    QuantizeOptions options;
    options.target = target;
    quantize(quantized, network.calibration, options);
    Graph trained = train(quantized, digits, epochs);
    // Weights that grew may need coarser grids on a chip with narrow accumulators (esp32s3).
    if (fit_accumulators(trained, network.calibration, options.accumulators).changed())
      derive_exponents(trained, options.derive);
    const Score before = score(quantized, digits), after = score(trained, digits);
    std::cout << fmt::format("{:<10}{:>14.2f} %{:>10.2f} %{:>14.2f} %{:>10.2f} %{:>12}\n", target, before.simulated,
                             before.board, after.simulated, after.board,
                             fmt::format("{} and {}", before.different, after.different));
    write_verified(trained, digits, folder / fmt::format("{}.espdl", target));
  }
  std::cout << "files in " << folder.string() << ", verified\n";
  return 0;
}

}  // namespace
}  // namespace espq::samples

int main(int argc, char** argv) {
  at::set_num_threads(1);
  spdlog::set_level(spdlog::level::warn);
  try {
    return espq::samples::run(argc > 1 ? argv[1] : "out/qat_digits", argc > 2 ? std::stoll(argv[2]) : 10);
  } catch (const espq::UserError& error) {
    std::cerr << "qat_digits: error: " << error.what() << "\n";
    return 1;
  }
}
