// BatchNormalizations that training keeps, against LibTorch's own.
#include "qat/batch_normalization.h"

#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/support/error.h"
#include "passes/lowering/lower.h"
#include "qat/training.h"
#include "tests/qat/cuda.h"
#include "tests/qat/small_network.h"
#include "tests/qat/straight_through.h"
#include "tests/user_error.h"

namespace espq {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Named = std::map<std::string, at::Tensor>;

/// Conv 3x3 (2 -> 4) -> BN -> Relu -> depthwise Conv with bias -> BN -> Relu -> Flatten -> Gemm (192 -> 3) -> BN.
struct NormalizedNetwork {
  Graph graph;
  std::vector<BatchNormalization> kept;

  explicit NormalizedNetwork(const std::string& target = "esp32p4") {
    test::GraphBuilder net(3);
    const auto relu_of_normalized = [&](const char* relu, const char* name, Variable* x, int64_t channels) {
      return net.op("Relu", relu, {normalized(net, name, x, channels)});
    };
    Variable* x = net.op("Conv", "conv", {net.input({1, 2, 6, 8}), net.random("conv.1", {4, 2, 3, 3})},
                         {{"pads", Shape{1, 1, 1, 1}}});
    x = relu_of_normalized("relu", "bn", x, 4);
    x = net.op("Conv", "depthwise",
               {x, net.random("depthwise.1", {4, 1, 3, 3}, 0.4), net.random("depthwise.2", {4}, 1)},
               {{"pads", Shape{1, 1, 1, 1}}, {"group", int64_t{4}}});
    x = net.op("Flatten", "flatten", {relu_of_normalized("relu2", "bn2", x, 4)});
    x = net.op("Gemm", "gemm", {x, net.random("gemm.1", {3, 192}, 0.1), net.random("gemm.2", {3}, 1)},
               {{"transB", int64_t{1}}});
    net.output(normalized(net, "bn3", x, 3));
    graph = std::move(net.graph);
    kept = batch_normalizations(graph);
    Recipe recipe;
    recipe.target = target;
    graph = convert(graph, small_data(), recipe).quantized;
  }

  TrainableGraph trainable(TrainOptions options = {}) const {
    options.batch_normalizations = kept;
    return TrainableGraph(graph, options);
  }

 private:
  static Variable* normalized(test::GraphBuilder& net, const std::string& name, Variable* x, int64_t channels) {
    return net.op("BatchNormalization", name,
                  {x, net.uniform(name + ".1", {channels}, 0.5, 1.5), net.random(name + ".2", {channels}, 0.2),
                   net.random(name + ".3", {channels}), net.uniform(name + ".4", {channels}, 0.5, 1.5)});
  }
};

/// Parameters and running statistics, as leaves of their own.
Named copies(TrainableGraph& trainable) {
  Named result;
  for (const auto& [name, value] : trainable.named_parameters())
    result.emplace(name, value.detach().clone().requires_grad_());
  for (const auto& [name, value] : trainable.named_buffers()) result.emplace(name, value.clone());
  return result;
}

/// The network as LibTorch trains it, with `quantize(slot, value)` around what the quantized graph computes.
struct HandWritten {
  const NormalizedNetwork& network;
  Named& p;

  template <typename Quantize, typename Linear>
  at::Tensor layer(const Quantize& quantize, const char* name, const std::string& norm, const at::Tensor& x,
                   const Linear& linear) const {
    const Operation& operation = *network.graph.find_operation(name);
    const BatchNormalization& kept =
        *std::find_if(network.kept.begin(), network.kept.end(), [&](const auto& one) { return one.name == norm; });
    at::Tensor &mean = p.at(norm + ".running_mean"), &variance = p.at(norm + ".running_variance");
    const at::Tensor gamma = p.at(norm + ".gamma"), weight = p.at(std::string(name) + ".1");
    const at::Tensor s = (gamma.to(at::kDouble) / (variance.to(at::kDouble) + 1e-5F).sqrt());
    Shape rows(weight.dim(), 1), channels(x.dim(), 1);
    rows[0] = channels[1] = s.numel();
    const at::Tensor folded = (weight.to(at::kDouble) * s.reshape(rows)).to(at::kFloat);
    const at::Tensor plain =
        linear(quantize(operation.input_quant()[0], x), quantize(operation.input_quant()[1], folded)) /
            s.to(at::kFloat).reshape(channels) +
        kept.producer_bias.to(at::kFloat).reshape(channels);
    return quantize(operation.output_quant()[0],
                    at::batch_norm(plain, gamma, p.at(norm + ".beta"), mean, variance, true, 0.1, 1e-5F, false));
  }

  template <typename Quantize>
  at::Tensor operator()(const Quantize& quantize, const at::Tensor& x) const {
    const auto relu = [&](const char* name, const at::Tensor& value) {
      const Operation& operation = *network.graph.find_operation(name);
      return quantize(operation.output_quant()[0], at::relu(quantize(operation.input_quant()[0], value)));
    };
    const auto convolution = [](int64_t groups) {
      return [groups](const at::Tensor& x, const at::Tensor& w) { return at::conv2d(x, w, {}, 1, 1, 1, groups); };
    };
    at::Tensor value = relu("relu", layer(quantize, "conv", "bn", x, convolution(1)));
    value = relu("relu2", layer(quantize, "depthwise", "bn2", value, convolution(4)));
    return layer(quantize, "gemm", "bn3", value.flatten(1),
                 [](const at::Tensor& x, const at::Tensor& w) { return at::linear(x, w); });
  }
};

TEST(KeptBatchNormalizations, AreListedAndNamed) {
  const NormalizedNetwork network;
  TrainableGraph trainable = network.trainable();
  std::vector<std::string> parameters, buffers;
  for (const auto& [name, value] : trainable.named_parameters()) parameters.push_back(name);
  for (const auto& [name, value] : trainable.named_buffers()) buffers.push_back(name);
  EXPECT_THAT(parameters, ElementsAre("conv.1", "bn.gamma", "bn.beta", "depthwise.1", "bn2.gamma", "bn2.beta", "gemm.1",
                                      "bn3.gamma", "bn3.beta"));
  EXPECT_THAT(buffers, ElementsAre("bn.running_mean", "bn.running_variance", "bn2.running_mean", "bn2.running_variance",
                                   "bn3.running_mean", "bn3.running_variance"));
  for (const auto& [name, value] : trainable.named_buffers()) EXPECT_TRUE(trainable.state().count(name)) << name;
}

TEST(KeptBatchNormalizations, ComputeWhatIsFoldedWhenTheyAreFrozen) {
  const NormalizedNetwork network;
  TrainableGraph trainable = network.trainable();
  const at::Tensor x = at::randn({4, 2, 6, 8});
  for (const Precision precision : {Precision::Simulated, Precision::Float}) {
    const at::Tensor want = Executor(network.graph, precision).run(Tensors{x})[0];
    trainable.eval();
    EXPECT_TRUE(at::equal(trainable.forward({x}, precision)[0], want));
    trainable.train();
    trainable.freeze_batch_normalizations();
    const at::Tensor frozen = trainable.forward({x}, precision)[0];
    EXPECT_TRUE(frozen.requires_grad());
    EXPECT_TRUE(at::equal(frozen, want));
    trainable.freeze_batch_normalizations(false);
    const NamedTensors before = trainable.state();
    EXPECT_FALSE(at::equal(trainable.forward({x}, precision)[0], want));
    trainable.load_state(before);  // the batch moved the running statistics
  }
}

TEST(KeptBatchNormalizations, TrainLikeLibTorchWithoutRounding) {
  const NormalizedNetwork network;
  TrainableGraph trainable = network.trainable();
  Named parameters = copies(trainable);
  const HandWritten reference{network, parameters};
  const auto plain = [](const SlotQuant&, const at::Tensor& value) { return value; };
  for (int step = 0; step < 3; ++step) {
    const at::Tensor x = at::randn({8, 2, 6, 8}), target = at::randn({8, 3});
    at::mse_loss(trainable.forward({x}, Precision::Float)[0], target).backward();
    at::mse_loss(reference(plain, x), target).backward();
    c10::AutoGradMode no_gradients(false);
    for (const auto& [name, leaf] : trainable.named_parameters()) {
      at::Tensor& other = parameters.at(name);
      // The same operators; only the order of additions in float32 may differ, over a few layers.
      EXPECT_TRUE(at::allclose(leaf.grad(), other.grad(), 1e-4, 1e-6)) << name << " in step " << step;
      for (const at::Tensor* one : {&leaf, static_cast<const at::Tensor*>(&other)}) one->sub_(one->grad() * 0.05);
      other.mutable_grad().reset();
    }
    trainable.zero_grad();
    for (const auto& [name, value] : trainable.named_buffers())
      EXPECT_TRUE(at::allclose(value, parameters.at(name), 1e-5, 1e-6)) << name << " in step " << step;
  }
}

/// LibTorch's running statistics say what those of the last batch were: they are a tenth of the way there.
TEST(KeptBatchNormalizations, TakeTheStatisticsOfGivenBatches) {
  const NormalizedNetwork network;
  TrainableGraph trainable = network.trainable();
  trainable.eval();
  const auto plain = [](const SlotQuant&, const at::Tensor& value) { return value; };
  const Named start = copies(trainable);
  std::vector<Tensors> batches;
  Named want;
  for (int i = 0; i < 3; ++i) {
    batches.push_back({at::randn({8, 2, 6, 8}) * (i + 1) + i});
    Named parameters = copies(trainable);
    HandWritten{network, parameters}(plain, batches.back()[0]);
    for (const auto& [name, value] : trainable.named_buffers()) {
      const at::Tensor of_batch = (parameters.at(name) - start.at(name) * 0.9) / 0.1;
      want[name] = want.count(name) ? want[name] + of_batch : of_batch;
    }
  }
  trainable.reestimate_batch_normalizations(batches, Precision::Float);
  // Float32 numbers whose difference is divided by 0.1.
  for (const auto& [name, value] : trainable.named_buffers())
    EXPECT_TRUE(at::allclose(value, want.at(name) / 3, 1e-4, 1e-4)) << name;
  EXPECT_FALSE(trainable.is_training());
  for (const auto& [name, value] : trainable.named_parameters()) EXPECT_TRUE(value.equal(start.at(name))) << name;
  // With rounding, statistics are those of what the chip computes: near, not the same.
  trainable.reestimate_batch_normalizations(batches);
  for (const auto& [name, value] : trainable.named_buffers()) {
    EXPECT_FALSE(value.equal(want.at(name) / 3)) << name;
    EXPECT_TRUE(at::allclose(value, want.at(name) / 3, 0.5, 0.5)) << name;
  }
  EXPECT_THAT(test::user_error_of([&] { trainable.reestimate_batch_normalizations({}); }), HasSubstr("no batches"));
  // A batch that does not fit, behind one that does: everything is as before.
  const Named before = copies(trainable);
  EXPECT_ANY_THROW(trainable.reestimate_batch_normalizations({batches[0], {at::zeros({1, 3, 6, 8})}}));
  EXPECT_FALSE(trainable.is_training());
  for (const auto& [name, value] : trainable.named_buffers()) EXPECT_TRUE(value.equal(before.at(name))) << name;
  trainable.train();
  trainable.forward(batches[0]);
  for (const auto& [name, value] : trainable.named_buffers())
    EXPECT_TRUE(at::allclose(value, before.at(name), 0.2, 0.2)) << name << " moved by more than the momentum";
  TrainableGraph folded(network.graph);
  EXPECT_THAT(test::user_error_of([&] { folded.reestimate_batch_normalizations(batches); }),
              HasSubstr("no BatchNormalization is kept"));
}

class KeptGradients : public ::testing::TestWithParam<const char*> {};

TEST_P(KeptGradients, EqualTheHandWrittenNetwork) {
  const NormalizedNetwork network(GetParam());
  TrainableGraph trainable = network.trainable();
  Named parameters = copies(trainable);
  const at::Tensor x = at::randn({8, 2, 6, 8}), target = at::randn({8, 3});
  const at::Tensor ours = trainable.forward({x})[0];
  const at::Tensor theirs = HandWritten{network, parameters}(StraightThrough{network.graph, false}, x);
  EXPECT_TRUE(at::equal(ours, theirs));
  at::mse_loss(ours, target).backward();
  at::mse_loss(theirs, target).backward();
  for (const auto& [name, leaf] : trainable.named_parameters())
    EXPECT_TRUE(at::allclose(leaf.grad(), parameters.at(name).grad(), 1e-4, 1e-6)) << name;
}

INSTANTIATE_TEST_SUITE_P(Targets, KeptGradients, ::testing::Values("esp32p4", "esp32s3"));

/// Plain gradient descent; normalizations freeze after half of the steps.
void descend(TrainableGraph& trainable, int64_t from, int64_t to, MovingAverage* average = nullptr) {
  FreezeSchedule schedule;
  schedule.freeze_batch_normalizations(3);
  for (int64_t step = from; step < to; ++step) {
    at::manual_seed(100 + step);
    schedule.apply(trainable, step);
    trainable.zero_grad();
    at::mse_loss(trainable.forward({at::randn({8, 2, 6, 8})})[0], at::randn({8, 3})).backward();
    c10::AutoGradMode no_gradients(false);
    for (const at::Tensor& parameter : trainable.parameters()) parameter.sub_(parameter.grad() * 0.05);
    if (average) average->update();
  }
}

TEST(KeptBatchNormalizations, AreFoldedIntoWhatIsExported) {
  const NormalizedNetwork network;
  TrainableGraph trainable = network.trainable();
  descend(trainable, 0, 3);
  const NamedTensors middle = trainable.state();
  descend(trainable, 3, 6);
  for (const auto& [name, value] : trainable.named_buffers()) EXPECT_TRUE(at::equal(value, middle.at(name))) << name;
  const at::Tensor x = at::randn({1, 2, 6, 8});
  const at::Tensor trained = trainable.forward({x})[0].detach();
  const Graph result = trainable.graph();
  EXPECT_FALSE(result.find_variable("conv.1")->value().requires_grad());
  EXPECT_TRUE(at::equal(Executor(result, Precision::Simulated).run(Tensors{x})[0], trained));
  trainable.eval();
  EXPECT_TRUE(at::equal(trainable.forward({x})[0], trained));
  const Graph chip = lower(result);
  const at::Tensor codes = Executor(chip, Precision::Board).run(Tensors{x.permute({0, 2, 3, 1}).contiguous()})[0];
  const float scale = std::ldexp(1.0F, chip.outputs()[0]->storage()->exponents[0]);
  EXPECT_LE((codes.to(at::kFloat) * scale - trained).abs().max().item<float>(), scale);
}

TEST(KeptBatchNormalizations, GoOnFromACheckpoint) {
  const NormalizedNetwork network;
  const auto file = std::filesystem::path(::testing::TempDir()) / "espq_kept_normalizations.pt";
  TrainableGraph whole = network.trainable();
  MovingAverage whole_average(whole, 0.9);
  descend(whole, 0, 5, &whole_average);
  {
    TrainableGraph first = network.trainable();
    MovingAverage average(first, 0.9);
    descend(first, 0, 2, &average);
    save_checkpoint(file, {first, nullptr, &average, 2});
  }
  TrainableGraph second = network.trainable();
  MovingAverage average(second, 0.9);
  TrainingState state{second, nullptr, &average};
  ASSERT_TRUE(load_checkpoint(file, state));
  descend(second, state.step, 5, &average);
  for (int exchanged = 0; exchanged < 2; ++exchanged) {
    for (const auto& [name, value] : whole.state()) EXPECT_TRUE(at::equal(second.state().at(name), value)) << name;
    whole_average.exchange();
    average.exchange();
  }
  std::filesystem::remove(file);
}

TEST(KeptBatchNormalizations, RefuseWhatDoesNotFit) {
  NormalizedNetwork network;
  TrainableGraph trainable = network.trainable();
  EXPECT_THAT(test::user_error_of([&] { trainable.forward({at::randn({1, 2, 6, 8})}); }), HasSubstr("'bn3'"));
  Variable& weight = *network.graph.find_variable("depthwise.1");
  weight.set_value(weight.value() * 2);
  EXPECT_THAT(test::user_error_of([&] { network.trainable(); }),
              AllOf(HasSubstr("'bn2'"), HasSubstr("'depthwise'"), HasSubstr("leave it out of the list")));
  network.kept[0].producer = "gone";
  EXPECT_THAT(test::user_error_of([&] { network.trainable(); }), HasSubstr("'gone'"));
}

TEST(KeptNormalization, TrainsOnCudaAsOnTheProcessor) {
  if (!test::has_cuda()) GTEST_SKIP() << "no CUDA device";
  const NormalizedNetwork network;
  TrainableGraph here = network.trainable(), there = network.trainable({.device = at::kCUDA});
  at::manual_seed(2);
  const at::Tensor x = at::randn({8, 2, 6, 8}), target = at::randn({8, 3});
  const auto step = [&](TrainableGraph& graph, at::Device device) {
    const at::Tensor value = graph.forward({x.to(device)})[0];
    at::mse_loss(value, target.to(device)).backward();
    return value.detach().cpu();
  };
  EXPECT_TRUE(at::allclose(step(there, at::kCUDA), step(here, at::kCPU), 1e-4, 1e-4));  // statistics in another order
  for (size_t i = 0; i < here.parameters().size(); ++i) {
    const at::Tensor want = here.parameters()[i].grad(), got = there.parameters()[i].grad().cpu();
    EXPECT_LE((got - want).abs().max().item<double>(), 1e-4 * want.abs().max().item<double>() + 1e-6)
        << here.named_parameters()[i].first;
  }
  for (auto* graph : {&here, &there}) graph->freeze_batch_normalizations();
  EXPECT_TRUE(at::allclose(step(there, at::kCUDA), step(here, at::kCPU), 1e-4, 1e-4));
  const Graph trained = there.graph();
  EXPECT_TRUE(trained.find_variable("conv.1")->value().is_cpu());
}

}  // namespace
}  // namespace espq
