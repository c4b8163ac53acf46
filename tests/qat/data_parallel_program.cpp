// Workers as processes of their own: data_parallel_program FOLDER PROCESSES STEPS [RANK SIGNAL AFTER_STEP]
// Trains; rank 0 writes the gradients of the first step, checkpoints every third step and the final state. The worker
// RANK raises SIGNAL at itself after AFTER_STEP steps.
#include <torch/optim/adam.h>

#include <iostream>

#include "qat/data_parallel.h"
#include "qat/tensor_file.h"
#include "qat/training.h"
#include "tests/qat/small_network.h"

namespace espq {
namespace {

struct Arguments {
  std::filesystem::path folder;
  int64_t steps = 0;
  int rank = -1, signal = 0;
  int64_t after = -1;
};

int work(const Worker& worker, const Arguments& arguments) {
  TrainOptions options;
  options.learn_activation_exponents = true;
  TrainableGraph trainable(small_quantized_network("esp32p4"), options);
  at::manual_seed(5);
  const at::Tensor x = at::randn({48, 2, 6, 8}), target = at::randn({48, 3});
  torch::optim::Adam optimizer(trainable.parameters(), torch::optim::AdamOptions(5e-3));
  BatchOrder order(48, 16, 3);
  TrainingState state{trainable, &optimizer};
  const StopSignal stop;
  const std::filesystem::path checkpoint = arguments.folder / "checkpoint.pt";
  load_checkpoint(checkpoint, state);
  DataParallel workers(worker);
  while (state.step < arguments.steps) {
    const at::Tensor rows = workers.part(order.batch(state.step));
    optimizer.zero_grad();
    at::mse_loss(trainable.forward({x.index_select(0, rows)})[0], target.index_select(0, rows)).backward();
    workers.average_gradients(trainable.parameters());
    if (state.step == 0) {
      NamedTensors gradients;
      for (const auto& [name, parameter] : trainable.named_parameters()) gradients.emplace(name, parameter.grad());
      write_tensors(arguments.folder / fmt::format("gradients_{}.pt", worker.rank), gradients);
    }
    optimizer.step();
    if (++state.step == arguments.after && worker.rank == arguments.rank) std::raise(arguments.signal);
    const bool leave = workers.any(StopSignal::received());
    if (worker.rank == 0 && (state.step % 3 == 0 || leave)) save_checkpoint(checkpoint, state);
    if (leave) return 128 + SIGTERM;
  }
  if (worker.rank == 0) write_tensors(arguments.folder / "final.pt", trainable.state());
  return 0;
}

}  // namespace
}  // namespace espq

int main(int argc, char** argv) try {
  if (argc != 4 && argc != 7) return 2;
  espq::Arguments arguments{argv[1], std::stoll(argv[3])};
  if (argc == 7) {
    arguments.rank = std::stoi(argv[4]);
    arguments.signal = std::stoi(argv[5]);
    arguments.after = std::stoll(argv[6]);
  }
  return espq::launch_workers(std::stoi(argv[2]),
                              [&](const espq::Worker& worker) { return espq::work(worker, arguments); });
} catch (const espq::UserError& error) {
  std::cerr << "error: " << error.what() << "\n";
  return 1;
}
