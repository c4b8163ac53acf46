// A small training run as its own process: resume_program FOLDER STEPS [SIGNAL AFTER_STEP]
// Checkpoints every third step; raises SIGNAL at itself once AFTER_STEP steps are done. Writes FOLDER/final.pt.
#include <torch/optim/adam.h>

#include <iostream>

#include "qat/tensor_file.h"
#include "qat/training.h"
#include "tests/qat/small_network.h"

namespace espq {
namespace {

int run(const std::filesystem::path& folder, int64_t steps, int signal, int64_t after) {
  TrainOptions options;
  options.learn_activation_exponents = options.learn_weight_exponents = true;
  TrainableGraph trainable(small_quantized_network("esp32p4"), options);
  at::manual_seed(5);
  const at::Tensor x = at::randn({50, 2, 6, 8}), target = at::randn({50, 3});
  using torch::optim::AdamOptions;
  torch::optim::Adam optimizer(
      {torch::optim::OptimizerParamGroup(trainable.weights()),
       torch::optim::OptimizerParamGroup(trainable.exponents(), std::make_unique<AdamOptions>(2e-2))},
      AdamOptions(5e-3));
  MovingAverage average(trainable, 0.9);
  FreezeSchedule freeze;
  freeze.add(9, is_exponent_name);
  BatchOrder order(50, 16, 3);
  TrainingState state{trainable, &optimizer, &average};
  const StopSignal stop;
  const std::filesystem::path checkpoint = folder / "checkpoint.pt";
  if (load_checkpoint(checkpoint, state)) std::cout << "resumed after step " << state.step << std::endl;
  while (state.step < steps) {
    freeze.apply(trainable, state.step);
    const at::Tensor rows = order.batch(state.step);
    const at::Tensor batch = x.index_select(0, rows);
    optimizer.zero_grad();
    const at::Tensor noisy = batch + at::randn_like(batch) * 0.05;  // augmentation draws on the default generator
    at::mse_loss(trainable.forward({noisy})[0], target.index_select(0, rows)).backward();
    optimizer.step();
    average.update();
    if (++state.step == after) std::raise(signal);
    if (state.step % 3 == 0 || StopSignal::received()) save_checkpoint(checkpoint, state);
    if (StopSignal::received()) return 128 + StopSignal::received();
  }
  average.exchange();
  write_tensors(folder / "final.pt", trainable.state());
  return 0;
}

}  // namespace
}  // namespace espq

int main(int argc, char** argv) {
  if (argc != 3 && argc != 5) return 2;
  return espq::run(argv[1], std::stoll(argv[2]), argc == 5 ? std::stoi(argv[3]) : 0,
                   argc == 5 ? std::stoll(argv[4]) : -1);
}
