// Quantization-aware training with a loop of one's own: LibTorch's optimizer, espq's network.
//   qat_digits [FOLDER [EPOCHS]] [--nproc N] [--keep-normalizations] [--rate R]      (docs/qat.md)
#include <ATen/Parallel.h>
#include <spdlog/spdlog.h>
#include <torch/nn/functional/loss.h>
#include <torch/optim/adam.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <numbers>

#include "core/exec/float_layout.h"
#include "core/support/error.h"
#include "export/conversion/verify.h"
#include "passes/pipeline/write.h"
#include "qat/training.h"
#include "qat/worker_group.h"
#include "samples/training.h"

namespace espq::samples {
namespace {

struct Score {
  double simulated, board;  ///< percent right
  int64_t different;        ///< images that the two precisions answer differently
};

Score score(const Conversion& made, const Digits& digits) {
  Executor simulation(made.quantized, Precision::Simulated), executor(made.chip, Precision::Board);
  const at::Tensor simulated = simulation.run(Tensors{digits.test_images})[0].argmax(1);
  const at::Tensor board = run_in_float_layout(executor, made.chip, {digits.test_images})[0].argmax(1);
  const auto percent = [&](const at::Tensor& answers) {
    return 100 * answers.eq(digits.test_labels).to(at::kDouble).mean().item<double>();
  };
  return {percent(simulated), percent(board), simulated.ne(board).sum().item<int64_t>()};
}

struct Options {
  std::string folder = "out/qat_digits";
  int64_t epochs = 10;
  double rate = 2e-3;
  bool keep_normalizations = false;
  int processes = 1;
};

/// The loop: what a user writes. `kept` BatchNormalizations go by the batch for two thirds of the steps. A step adds up
/// the gradients of the pieces of its batch; several processes share them. One process takes two pieces, so that two
/// processes add up the same numbers and give the same bytes.
Graph train(const Conversion& start, std::vector<BatchNormalization> kept, const Digits& digits, const Options& options,
            WorkerGroup& group) {
  TrainableGraph network(start.quantized, {.batch_normalizations = std::move(kept), .quirks = start.recipe.quirks});
  group.broadcast(network.parameters());
  const int64_t pieces = std::max(2, group.size());
  torch::optim::Adam optimizer(network.parameters(), torch::optim::AdamOptions(options.rate));
  MovingAverage average(network, 0.99);
  BatchOrder order(digits.train_images.size(0), 32, 1);
  const int64_t steps = options.epochs * order.batches_per_epoch();
  FreezeSchedule schedule;
  schedule.freeze_batch_normalizations(2 * steps / 3);
  for (int64_t step = 0; step < steps; ++step) {
    schedule.apply(network, step);
    static_cast<torch::optim::AdamOptions&>(optimizer.param_groups()[0].options())
        .lr(0.5 * options.rate *
            (1 + std::cos(std::numbers::pi * static_cast<double>(step) / static_cast<double>(steps))));
    optimizer.zero_grad();
    const at::Tensor batch = group.share(order.batch(step));
    for (const at::Tensor& rows : batch.chunk(pieces / group.size())) {
      const at::Tensor scores = network.forward({digits.train_images.index_select(0, rows)})[0];
      const at::Tensor loss = torch::nn::functional::cross_entropy(scores, digits.train_labels.index_select(0, rows));
      (loss * group.size() / pieces).backward();
    }
    group.average_gradients(network.parameters());
    group.broadcast(network.buffers());
    optimizer.step();
    average.update();
  }
  average.exchange();
  return network.graph();
}

void write_verified(const Conversion& made, const Digits& digits, const std::filesystem::path& file) {
  export_espdl(made, {{made.chip.inputs()[0]->name(), digits.test_images.slice(0, 0, 1)}}, file);
  require_verified(file, *made.chip.target());
}

int run(const Options& wanted) {
  const std::filesystem::path folder = wanted.folder;
  WorkerGroup group = WorkerGroup::join({.timeout = std::chrono::minutes(10)});  // the first one also evaluates
  if (!group.is_first()) std::cout.setstate(std::ios::failbit);                  // and prints
  std::filesystem::create_directories(folder);
  const Digits digits = load_digits(ESPQ_DIGITS_FILE);
  const TrainedNetwork network = train_small_digits(digits, 20);
  const double baseline =
      100 * network.test_outputs.argmax(1).eq(digits.test_labels).to(at::kDouble).mean().item<double>();
  std::cout << fmt::format("accuracy on {} images, float {:.2f} %\n{:<10}{:>16}{:>12}{:>16}{:>12}{:>12}\n",
                           digits.test_labels.numel(), baseline, "", "PTQ simulated", "PTQ board", "QAT simulated",
                           "QAT board", "different");
  for (const char* target : {"esp32p4", "esp32s3"}) {
    Recipe recipe;
    recipe.target = target;
    const Conversion start = convert(network.graph, network.calibration, recipe);
    std::vector<BatchNormalization> kept;
    if (wanted.keep_normalizations) kept = batch_normalizations(network.graph);
    const Graph trained = train(start, std::move(kept), digits, wanted, group);
    if (!group.is_first()) continue;
    // Weights that grew may need coarser grids on a chip with narrow accumulators (esp32s3).
    const Conversion made = finish(trained, network.calibration, recipe);
    const Score before = score(start, digits), after = score(made, digits);
    std::cout << fmt::format("{:<10}{:>14.2f} %{:>10.2f} %{:>14.2f} %{:>10.2f} %{:>12}\n", target, before.simulated,
                             before.board, after.simulated, after.board,
                             fmt::format("{} and {}", before.different, after.different));
    write_verified(made, digits, folder / fmt::format("{}.espdl", target));
  }
  std::cout << "files in " << folder.string() << ", verified\n";
  return 0;
}

}  // namespace
}  // namespace espq::samples

int main(int argc, char** argv) {
  espq::samples::Options options;
  CLI::App app{"Quantization-aware training of a small network that reads digits: prints accuracies, writes .espdl"};
  app.add_option("folder", options.folder, "Folder for what is written")->capture_default_str();
  app.add_option("epochs", options.epochs, "Passes over the training images")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--nproc", options.processes, "Processes that share every batch: 1, 2, 4 ...")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_flag("--keep-normalizations", options.keep_normalizations,
               "Train with the statistics of the batch, frozen for the last third of the steps");
  app.add_option("--rate", options.rate, "Learning rate at the start")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  at::set_num_threads(1);
  spdlog::set_level(spdlog::level::warn);
  try {
    if (options.processes > 1 && !espq::is_worker()) return espq::run_workers(options.processes, argv);
    return espq::samples::run(options);
  } catch (const espq::UserError& error) {
    std::cerr << "qat_digits: error: " << error.what() << "\n";
    return 1;
  }
}
