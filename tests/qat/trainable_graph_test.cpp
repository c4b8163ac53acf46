#include "qat/trainable_graph.h"

#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "core/quant/fake_quantize.h"
#include "core/support/error.h"
#include "passes/lowering/lower.h"
#include "tests/qat/small_network.h"
#include "tests/user_error.h"

namespace espq {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> names(const TrainableGraph& trainable) {
  std::vector<std::string> result;
  for (const auto& [name, parameter] : trainable.named_parameters()) result.push_back(name);
  return result;
}

/// A few steps of plain gradient descent.
void descend(TrainableGraph& trainable, int steps, double rate = 0.05) {
  at::manual_seed(11);
  const at::Tensor x = at::randn({8, 2, 6, 8}), target = at::randn({8, 3});
  for (int step = 0; step < steps; ++step) {
    trainable.zero_grad();
    at::mse_loss(trainable.forward({x})[0], target).backward();
    c10::AutoGradMode no_gradients(false);
    for (const at::Tensor& parameter : trainable.parameters()) parameter.sub_(parameter.grad() * rate);
  }
}

TEST(TrainableGraph, NamesItsParameters) {
  const Graph graph = small_quantized_network("esp32p4");
  EXPECT_THAT(names(TrainableGraph(graph)), ElementsAre("conv.weight", "conv.bias", "gemm.weight", "gemm.bias"));
  TrainOptions options;
  options.learn_activation_exponents = true;
  options.frozen = [](const std::string& name) { return name == "conv.bias" || name == "x.exponent"; };
  TrainableGraph some(graph, options);
  EXPECT_THAT(names(some), ElementsAre("conv.weight", "gemm.weight", "gemm.bias", "relu.exponent", "gemm.exponent"));
  EXPECT_EQ(some.weights().size(), 3u);
  EXPECT_EQ(some.exponents().size(), 2u);
}

TEST(TrainableGraph, ForwardEqualsTheExecutor) {
  const Graph graph = small_quantized_network("esp32s3");
  TrainableGraph trainable(graph);
  const at::Tensor x = at::randn({4, 2, 6, 8});
  for (const Precision precision : {Precision::Simulated, Precision::Float}) {
    const at::Tensor want = Executor(graph, precision).run(Tensors{x})[0];
    for (const bool training : {true, false}) {
      trainable.train(training);
      const at::Tensor got = trainable.forward({x}, precision)[0];
      EXPECT_EQ(got.requires_grad(), training);
      EXPECT_TRUE(at::equal(got, want));
    }
  }
  EXPECT_THROW(trainable.forward({x}, Precision::Board), UserError);
}

TEST(TrainableGraph, TrainsWithoutTouchingTheGivenGraph) {
  const Graph graph = small_quantized_network("esp32p4");
  const at::Tensor before = graph.find_variable("conv.weight")->value().clone();
  TrainableGraph trainable(graph);
  trainable.eval();
  const at::Tensor x = at::randn({4, 2, 6, 8});
  const at::Tensor untrained = trainable.forward({x})[0];
  trainable.train();
  descend(trainable, 3);
  EXPECT_TRUE(at::equal(graph.find_variable("conv.weight")->value(), before));
  trainable.eval();  // parameters were cached before
  const at::Tensor trained = trainable.forward({x})[0];
  EXPECT_FALSE(at::equal(trained, untrained));
  const Graph result = trainable.graph();
  EXPECT_FALSE(at::equal(result.find_variable("conv.weight")->value(), before));
  EXPECT_FALSE(result.find_variable("conv.weight")->value().requires_grad());
  EXPECT_TRUE(at::equal(Executor(result, Precision::Simulated).run(Tensors{x})[0], trained));
  // A parameter written to in evaluation mode counts, too.
  {
    c10::AutoGradMode no_gradients(false);
    trainable.weights()[0].mul_(0.5);
  }
  EXPECT_FALSE(at::equal(trainable.forward({x})[0], trained));
}

TEST(TrainableGraph, FrozenParametersStay) {
  TrainOptions options;
  options.frozen = [](const std::string& name) { return name.rfind("conv.", 0) == 0; };
  TrainableGraph trainable(small_quantized_network("esp32p4"), options);
  const NamedTensors before = trainable.state();
  descend(trainable, 3);
  const NamedTensors after = trainable.state();
  for (const char* name : {"conv.weight", "conv.bias", "scale_groups"})
    EXPECT_TRUE(at::equal(before.at(name), after.at(name))) << name;
  for (const char* name : {"gemm.weight", "gemm.bias"})
    EXPECT_FALSE(at::equal(before.at(name), after.at(name))) << name;
}

TEST(TrainableGraph, LearnedExponentsReachTheChip) {
  const Graph graph = small_quantized_network("esp32p4");
  TrainOptions options;
  options.learn_activation_exponents = options.learn_weight_exponents = true;
  TrainableGraph trainable(graph, options);
  for (auto& [name, leaf] : trainable.named_parameters()) {
    c10::AutoGradMode no_gradients(false);
    if (name == "relu.exponent") leaf.add_(0.7);
    if (name == "conv.weight.exponent") leaf.select(0, 2).add_(1.2);
  }
  trainable.eval();
  const at::Tensor x = at::randn({1, 2, 6, 8});
  const at::Tensor simulated = trainable.forward({x})[0];
  const Graph result = trainable.graph();
  const auto exponents = [](const Graph& of, const char* name, size_t slot) {
    return slot_exponents(of, of.find_operation(name)->input_quant()[slot]);
  };
  std::vector<int> weight = exponents(graph, "conv", 1), bias = exponents(graph, "conv", 2);
  weight[2] += 1;
  bias[2] += 1;
  EXPECT_EQ(exponents(result, "conv", 1), weight);
  EXPECT_EQ(exponents(result, "conv", 2), bias);
  EXPECT_EQ(exponents(result, "gemm", 0)[0], exponents(graph, "gemm", 0)[0] + 1);  // shares the scale behind Relu
  EXPECT_EQ(exponents(result, "gemm", 2)[0], exponents(graph, "gemm", 2)[0] + 1);
  const Graph chip = lower(result);
  const at::Tensor codes = Executor(chip, Precision::Board).run(Tensors{x.permute({0, 2, 3, 1}).contiguous()})[0];
  const std::vector<int> output = slot_exponents(result, result.find_operation("gemm")->output_quant()[0]);
  EXPECT_LE((dequantize(codes.to(at::kFloat), output, -1) - simulated).abs().max().item<float>(),
            std::ldexp(1.0f, output[0]));
}

TEST(TrainableGraph, StateSurvivesAFile) {
  const auto file = std::filesystem::path(::testing::TempDir()) / "espq_qat_state.pt";
  TrainOptions options;
  options.learn_activation_exponents = true;
  const Graph graph = small_quantized_network("esp32p4");
  TrainableGraph trained(graph, options), fresh(graph, options);
  descend(trained, 5);
  trained.save(file);
  fresh.load(file);
  for (const auto& [name, value] : trained.state()) EXPECT_TRUE(at::equal(fresh.state().at(name), value)) << name;
  const at::Tensor x = at::randn({4, 2, 6, 8});
  EXPECT_TRUE(at::equal(fresh.forward({x})[0], trained.forward({x})[0]));

  const NamedTensors untouched = TrainableGraph(graph).state();
  TrainableGraph other(graph);  // learns no exponents
  EXPECT_THAT(test::user_error_of([&] { other.load(file); }), HasSubstr(".exponent"));
  for (const auto& [name, value] : untouched) EXPECT_TRUE(at::equal(other.state().at(name), value)) << name;
  EXPECT_THAT(test::user_error_of([&] { other.load("/nowhere/state.pt"); }), HasSubstr("/nowhere/state.pt"));
  std::filesystem::resize_file(file, 100);
  EXPECT_THAT(test::user_error_of([&] { fresh.load(file); }), HasSubstr("espq_qat_state.pt"));
  std::filesystem::remove(file);
}

TEST(TrainableGraph, RefusesWhatItCannotTrain) {
  EXPECT_THAT(test::user_error_of([] { TrainableGraph{small_float_network()}; }), HasSubstr("convert()"));
  const Graph chip = lower(small_quantized_network("esp32p4"));
  EXPECT_THAT(test::user_error_of([&] { TrainableGraph{chip}; }), HasSubstr("chip graph"));
  TrainOptions options;
  options.learn_activation_exponents = true;
  TrainableGraph trainable(small_quantized_network("esp32p4"), options);
  {
    c10::AutoGradMode no_gradients(false);
    trainable.exponents()[0].fill_(std::numeric_limits<float>::quiet_NaN());
  }
  EXPECT_THAT(test::user_error_of([&] { trainable.forward({at::randn({1, 2, 6, 8})}); }), HasSubstr("diverged"));
}

}  // namespace
}  // namespace espq
