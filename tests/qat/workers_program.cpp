// A training run on several processes: workers_program PROCESSES FOLDER STEPS [KILL_RANK AFTER_STEP [cuda gloo|nccl]]
// Each step's batch has 16 rows in all, whatever the number of processes. The first process writes FOLDER/gradients.pt
// (of the first step), FOLDER/checkpoint.pt (every second step) and FOLDER/final.pt; process KILL_RANK kills itself.
#include <torch/optim/sgd.h>

#include <csignal>
#include <iostream>

#include "core/support/error.h"
#include "qat/tensor_file.h"
#include "qat/training.h"
#include "qat/worker_group.h"
#include "tests/qat/small_network.h"

namespace espq {
namespace {

int train(const std::filesystem::path& folder, int64_t steps, int killed, int64_t after, const GroupOptions& wanted) {
  WorkerGroup group = WorkerGroup::join(wanted);
  TrainOptions options;
  options.learn_activation_exponents = options.learn_weight_exponents = true;
  options.device = group.device();
  TrainableGraph trainable(small_quantized_network("esp32p4"), options);
  at::manual_seed(5);
  const at::Tensor x = at::randn({64, 2, 6, 8}).to(options.device), target = at::randn({64, 3}).to(options.device);
  if (!group.is_first())  // what the first process holds must win
    for (const at::Tensor& parameter : trainable.parameters()) parameter.detach().zero_();
  group.broadcast(trainable.parameters());
  torch::optim::SGD optimizer(trainable.parameters(), torch::optim::SGDOptions(1e-2).momentum(0.9));
  BatchOrder order(64, 16, 3);
  TrainingState state{trainable, &optimizer, nullptr};
  const StopSignal stop;
  load_checkpoint(folder / "checkpoint.pt", state);
  while (state.step < steps) {
    const at::Tensor rows = group.share(order.batch(state.step)).to(options.device);
    optimizer.zero_grad();
    at::mse_loss(trainable.forward({x.index_select(0, rows)})[0], target.index_select(0, rows)).backward();
    group.average_gradients(trainable.parameters());
    if (state.step == 0 && group.is_first()) {
      NamedTensors gradients;
      for (const auto& [name, parameter] : trainable.named_parameters())
        gradients.emplace(name, parameter.grad().cpu());
      write_tensors(folder / "gradients.pt", gradients);
    }
    optimizer.step();
    if (++state.step == after && group.rank() == killed) std::raise(SIGKILL);
    if (group.is_first() && state.step % 2 == 0) save_checkpoint(folder / "checkpoint.pt", state);
    if (group.any(StopSignal::received() != 0)) return 3;
  }
  if (group.is_first()) write_tensors(folder / "final.pt", trainable.state());
  return 0;
}

}  // namespace
}  // namespace espq

int main(int argc, char** argv) {
  if (argc != 4 && argc != 6 && argc != 8) return 2;
  try {
    espq::GroupOptions wanted{.timeout = std::chrono::seconds(20)};
    if (argc == 8) {
      wanted.device = at::Device(argv[6]);
      wanted.transport = argv[7] == std::string("nccl") ? espq::Transport::Nccl : espq::Transport::Gloo;
      // NCCL refuses two processes on one device. Under different names of the machine they talk through sockets.
      if (const char* rank = std::getenv("RANK")) setenv("NCCL_HOSTID", rank, 1);
    }
    if (!espq::is_worker() && std::stoi(argv[1]) > 1) return espq::run_workers(std::stoi(argv[1]), argv);
    return espq::train(argv[2], std::stoll(argv[3]), argc >= 6 ? std::stoi(argv[4]) : -1,
                       argc >= 6 ? std::stoll(argv[5]) : -1, wanted);
  } catch (const espq::UserError& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
}
