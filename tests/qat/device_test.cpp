// Where networks train. LibTorch's meta device, which has shapes but no numbers, stands for "another device" on every
// machine; the tests named Cuda need one and say skipped elsewhere.
#include "core/exec/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/optim/sgd.h>

#include "core/support/error.h"
#include "passes/lowering/lower.h"
#include "qat/training.h"
#include "tests/qat/cuda.h"
#include "tests/qat/small_network.h"
#include "tests/user_error.h"

namespace espq {
namespace {

using ::testing::HasSubstr;

TEST(Device, MovesWhatKernelsComputeWithAndNoIndices) {
  Graph graph = small_float_network();
  Variable& first = *graph.inputs()[0];
  Variable& shape = graph.add_parameter("shape", at::tensor({0, -1}, at::kLong));
  Variable& output = graph.add_variable("reshaped");
  graph.add_operation("Reshape", "reshape", {&first, &shape}, {&output}, {});
  move_parameters(graph, at::kMeta);
  for (const char* name : {"conv.weight", "conv.bias", "gemm.weight", "gemm.bias"})
    EXPECT_TRUE(graph.find_variable(name)->value().is_meta()) << name;
  EXPECT_TRUE(shape.value().is_cpu());
}

TEST(Device, ForwardNamesTheDeviceOfAnInput) {
  TrainableGraph trainable(small_quantized_network("esp32p4"));
  const at::Tensor elsewhere = at::empty({1, 2, 6, 8}, at::TensorOptions().device(at::kMeta));
  EXPECT_THAT(test::user_error_of([&] { trainable.forward({elsewhere}); }),
              HasSubstr("the network trains on cpu, an input is on meta"));
}

TEST(Device, BoardPrecisionIsTheProcessors) {
  const Graph chip = lower(small_quantized_network("esp32p4"));
  Executor executor(chip, Precision::Board);
  const at::Tensor elsewhere = at::empty({1, 6, 8, 2}, at::TensorOptions().device(at::kMeta));
  EXPECT_THAT(test::user_error_of([&] { executor.run({elsewhere}); }), HasSubstr("Board precision computes on the"));
}

TEST(Device, SaysWhenThereIsNone) {
  const at::Device device(at::kCUDA, static_cast<at::DeviceIndex>(test::cuda_devices()));
  const Graph quantized = small_quantized_network("esp32p4");
  EXPECT_THAT(test::user_error_of([&] { TrainableGraph(quantized, {.device = device}); }),
              HasSubstr("cannot be trained on " + device.str()));
}

/// Both hold the same network; one of them trains on CUDA.
class Cuda : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!test::has_cuda()) GTEST_SKIP() << "no CUDA device";
  }
  static TrainOptions options(at::Device device) {
    TrainOptions result;
    result.learn_activation_exponents = result.learn_weight_exponents = true;
    result.device = device;
    return result;
  }
  Graph quantized_ = test::has_cuda() ? small_quantized_network(GetParam()) : Graph();
  test::WholeFloat32 whole_float32_;
};

/// Largest difference as a part of the largest element.
double relative_difference(const at::Tensor& got, const at::Tensor& want) {
  const at::Tensor wide = want.detach().to(at::kCPU, at::kDouble);
  return ((got.detach().to(at::kCPU, at::kDouble) - wide).abs().max() / wide.abs().max().clamp_min(1e-9))
      .item<double>();
}

TEST_P(Cuda, ForwardAndGradientsAreTheProcessors) {
  TrainableGraph here(quantized_, options(at::kCPU)), there(quantized_, options(at::kCUDA));
  at::manual_seed(1);
  const at::Tensor x = at::randn({16, 2, 6, 8}), target = at::randn({16, 3});
  const at::Tensor want = here.forward({x})[0], got = there.forward({x.to(at::kCUDA)})[0];
  EXPECT_TRUE(got.is_cuda());
  // Sums of products of 8-bit codes are exact in float32 in any order.
  EXPECT_TRUE(at::equal(got.detach().cpu(), want.detach())) << relative_difference(got, want);
  at::mse_loss(want, target).backward();
  at::mse_loss(got, target.to(at::kCUDA)).backward();
  const auto mine = here.named_parameters(), theirs = there.named_parameters();
  ASSERT_EQ(mine.size(), theirs.size());
  for (size_t i = 0; i < mine.size(); ++i) {
    ASSERT_EQ(mine[i].first, theirs[i].first);
    ASSERT_TRUE(theirs[i].second.is_cuda()) << mine[i].first;
    // float32 sums in another order
    EXPECT_LE(relative_difference(theirs[i].second.grad(), mine[i].second.grad()), 1e-5) << mine[i].first;
  }
}

TEST_P(Cuda, TrainsAndGivesTheChipGraphOnTheProcessor) {
  TrainableGraph there(quantized_, options(at::kCUDA));
  at::manual_seed(1);
  const at::Tensor x = at::randn({16, 2, 6, 8}), target = at::randn({16, 3});
  torch::optim::SGD optimizer(there.parameters(), torch::optim::SGDOptions(0.02).momentum(0.9));
  MovingAverage average(there, 0.9);
  double first = 0, last = 0;
  for (int step = 0; step < 40; ++step) {
    optimizer.zero_grad();
    const at::Tensor loss = at::mse_loss(there.forward({x.to(at::kCUDA)})[0], target.to(at::kCUDA));
    loss.backward();
    optimizer.step();
    average.update();
    (step == 0 ? first : last) = loss.item<double>();
  }
  EXPECT_LT(last, 0.7 * first);
  const Graph trained = there.graph();
  for (const Variable* variable : trained.variables()) {
    EXPECT_TRUE(!variable->is_parameter() || variable->value().is_cpu()) << variable->name();
  }
  there.eval();
  const at::Tensor simulated = there.forward({x.slice(0, 0, 1).to(at::kCUDA)})[0].cpu();
  EXPECT_TRUE(at::equal(simulated, Executor(trained, Precision::Simulated).run(Tensors{x.slice(0, 0, 1)})[0]));
  const Graph chip = lower(trained);
  EXPECT_EQ(Executor(chip, Precision::Board).run(Tensors{x.slice(0, 0, 1).permute({0, 2, 3, 1})}).size(), 1U);
}

TEST_P(Cuda, ACheckpointGoesOnOnAnotherDevice) {
  const std::filesystem::path file =
      std::filesystem::path(::testing::TempDir()) / fmt::format("espq_device_{}.pt", GetParam());
  const at::Tensor x = at::ones({4, 2, 6, 8}), target = at::zeros({4, 3});
  const auto step = [&](TrainableGraph& graph, torch::optim::Optimizer& optimizer, at::Device device) {
    optimizer.zero_grad();
    at::mse_loss(graph.forward({x.to(device)})[0], target.to(device)).backward();
    optimizer.step();
  };
  const auto sgd = [](TrainableGraph& graph) {
    return torch::optim::SGD(graph.parameters(), torch::optim::SGDOptions(1e-3).momentum(0.9));
  };
  TrainableGraph there(quantized_, options(at::kCUDA)), here(quantized_, options(at::kCPU));
  torch::optim::SGD far = sgd(there), near = sgd(here);
  MovingAverage far_average(there, 0.9), near_average(here, 0.9);
  step(there, far, at::kCUDA);
  far_average.update();
  save_checkpoint(file, {there, &far, &far_average, 1});
  TrainingState state{here, &near, &near_average};
  ASSERT_TRUE(load_checkpoint(file, state));
  std::filesystem::remove(file);
  step(there, far, at::kCUDA);
  step(here, near, at::kCPU);
  const NamedTensors want = there.state();
  for (const auto& [name, tensor] : here.state()) EXPECT_LE(relative_difference(tensor, want.at(name)), 1e-6) << name;
}

INSTANTIATE_TEST_SUITE_P(Chips, Cuda, ::testing::Values("esp32p4", "esp32s3"),
                         [](const auto& chip) { return std::string(chip.param); });

}  // namespace
}  // namespace espq
