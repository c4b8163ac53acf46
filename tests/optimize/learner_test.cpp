#include "passes/optimize/learner.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/optim/adam.h>

namespace espq {
namespace {

/// Largest difference to LibTorch's Adam after some steps with the same gradients, in steps of the rate.
double difference(const at::Tensor& start, const at::Tensor& rate, double libtorch_rate, const at::Tensor& scale) {
  at::Tensor leaf = start.clone(), same = start.clone().requires_grad_();
  Learner learner(leaf, rate);
  torch::optim::Adam adam({same}, torch::optim::AdamOptions(libtorch_rate));
  for (int64_t step = 0; step < 30; ++step) {
    const at::Tensor gradient = at::sin(at::arange(start.numel()) * 0.7 + step * 0.3).reshape(start.sizes());
    learner.step(gradient, 1);
    same.mutable_grad() = gradient.clone();
    adam.step();
  }
  // LibTorch's own step, of the leaf with rate 1, scaled.
  const at::Tensor moved = (leaf - start) / scale, wanted = same.detach() - start;
  return ((moved - wanted).abs().max() / libtorch_rate).item<double>();
}

// float32 in another order of operations: some units in the last place of sums of 30 steps, and of the leaf.
constexpr double kRounding = 1e-3;

TEST(Learner, TakesTheStepsOfLibTorchsAdam) {
  for (const at::Tensor& start : {at::zeros({257}), at::zeros({3, 5, 2, 2}), at::zeros({})})
    EXPECT_LT(difference(start, at::scalar_tensor(0.01), 0.01, at::ones({})), kRounding) << start.sizes();
}

TEST(Learner, TakesRatesPerRow) {
  const at::Tensor rows = at::tensor({1.0, 0.5, 4.0}, at::kFloat).reshape({3, 1});
  EXPECT_LT(difference(at::zeros({3, 37}), rows * 0.01, 0.01, rows), kRounding);
}

// Other types take LibTorch's operators.
TEST(Learner, TakesTheSameStepsInFloat64) {
  EXPECT_LT(difference(at::zeros({257}, at::kDouble), at::scalar_tensor(0.01, at::kDouble), 0.01, at::ones({})), 1e-6);
}

TEST(Learner, TellsThatTheLeafWasWrittenTo) {
  at::Tensor leaf = at::zeros({8});
  const auto before = leaf._version();
  Learner(leaf, at::scalar_tensor(0.01)).step(at::ones({8}), 1);
  EXPECT_NE(leaf._version(), before);
}

}  // namespace
}  // namespace espq
