#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "passes/optimize/held_out.h"
#include "passes/optimize/reference.h"
#include "passes/optimize/snapshot.h"
#include "passes/pipeline/convert.h"
#include "passes/quantize/settle.h"
#include "tests/support/graph_builder.h"
#include "tests/user_error.h"

namespace espq {
namespace {

using test::GraphBuilder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Dataset numbered(int64_t batches, int64_t rows = 1) {
  std::vector<Dataset::Batch> data;
  for (int64_t i = 0; i < batches; ++i)
    data.push_back({{"x", at::arange(rows, at::kFloat).add(i * rows).reshape({rows, 1})}});
  return Dataset(std::move(data));
}

std::vector<int> numbers(const Dataset& data) {
  std::vector<int> result;
  for (size_t i = 0; i < data.size(); ++i)
    for (int64_t row = 0; row < data[i].at("x").size(0); ++row) result.push_back(data[i].at("x")[row].item<int>());
  return result;
}

TEST(HoldOut, TakesEveryFourthBatch) {
  const DividedData parts = hold_out(numbered(9));
  EXPECT_THAT(numbers(parts.training), ElementsAre(0, 1, 2, 4, 5, 6, 8));
  EXPECT_THAT(numbers(parts.held_out), ElementsAre(3, 7));
  EXPECT_THAT(numbers(hold_out(numbered(2)).training), ElementsAre(0));
  EXPECT_THAT(numbers(hold_out(numbered(3)).held_out), ElementsAre(2));
  EXPECT_FALSE(parts.same);
}

Dataset pictures_of(int64_t count) {
  std::vector<Dataset::Batch> data;
  for (int64_t i = 0; i < count; ++i)
    data.push_back({{"", at::arange(6, at::kFloat).add(10 * i).reshape({1, 1, 2, 3})}});
  return Dataset(std::move(data));
}

TEST(MirrorImages, StayOnTheSideOfTheirPicture) {
  for (const int64_t count : {4, 5, 6, 7, 8, 11}) {
    const Dataset both = with_mirror_images(pictures_of(count), -1);
    EXPECT_EQ(both.size(), static_cast<size_t>(2 * count - count % 4));
    const DividedData parts = hold_out(both);
    const auto has = [](const Dataset& part, const at::Tensor& picture) {
      for (size_t i = 0; i < part.size(); ++i)
        if (part[i].at("").equal(picture)) return true;
      return false;
    };
    for (size_t i = static_cast<size_t>(count); i < both.size(); ++i) {
      const at::Tensor& mirrored = both[i].at("");
      const at::Tensor picture = mirrored.flip({3});
      EXPECT_TRUE(has(pictures_of(count), picture)) << i;
      EXPECT_EQ(has(parts.training, picture), has(parts.training, mirrored)) << i << " of " << count;
      EXPECT_EQ(has(parts.held_out, picture), has(parts.held_out, mirrored)) << i << " of " << count;
    }
  }
}

TEST(MirrorImages, OfOneBatchAreFurtherRows) {
  const at::Tensor rows = at::arange(30, at::kFloat).reshape({5, 2, 3, 1});  // channels last
  const Dataset both = with_mirror_images(Dataset({{{"", rows}}}), -2);
  ASSERT_EQ(both.size(), 1u);
  const at::Tensor& all = both[0].at("");
  ASSERT_EQ(all.size(0), 9);
  EXPECT_TRUE(all.slice(0, 0, 5).equal(rows));
  for (int64_t i = 1; i < 5; ++i) EXPECT_TRUE(all[4 + i].equal(rows[i].flip({1}))) << i;
}

TEST(MirrorImages, AreOfPictures) {
  EXPECT_THAT(test::user_error_of([] { with_mirror_images(pictures_of(3), -1); }), HasSubstr("3 pictures are too few"));
  EXPECT_THAT(test::user_error_of([] { with_mirror_images(numbered(8), -1); }), HasSubstr("batch 0 is no picture"));
}

TEST(HoldOut, DividesASingleBatchBySamples) {
  const DividedData parts = hold_out(numbered(1, 6));
  EXPECT_THAT(numbers(parts.training), ElementsAre(0, 1, 2, 4, 5));
  EXPECT_THAT(numbers(parts.held_out), ElementsAre(3));
  const DividedData single = hold_out(numbered(1));
  EXPECT_TRUE(single.same);
  EXPECT_THAT(numbers(single.held_out), ElementsAre(0));
  EXPECT_THAT(test::user_error_of([] { hold_out(Dataset()); }), HasSubstr("no data"));
}

struct Small {
  Graph network;
  Dataset data;
  Graph quantized;
};

Small small() {
  GraphBuilder net;
  Variable* hidden = net.op("Relu", "relu", {net.conv("first", net.input({1, 3, 6, 6}), 5)});
  net.output(net.conv("second", hidden, 2));
  Small result;
  result.data = net.data(4);
  result.network = std::move(net.graph);
  result.quantized = convert(result.network, result.data).quantized;
  return result;
}

TEST(Snapshot, BringsWeightsSlotsAndExponentsBack) {
  Small made = small();
  Graph& graph = made.quantized;
  const std::string text = to_text(graph);
  const Tensors inputs = made.data.inputs(graph, 0);
  Executor executor(graph, Precision::Simulated);
  const at::Tensor before = executor.run(inputs)[0];
  const Snapshot snapshot(graph);
  graph.find_variable("first.weight")->set_value(graph.find_variable("first.weight")->value() * 1.7);
  const SlotQuant& weight = graph.find_operation("second")->input_quant()[1];
  std::vector<int> exponents = slot_exponents(graph, weight);
  for (int& exponent : exponents) exponent += 2;
  graph.scales().set_exponents(weight.scale, exponents);
  settle(graph);
  EXPECT_NE(to_text(graph), text);
  EXPECT_FALSE(at::equal(executor.run(inputs)[0], before));
  const uint64_t changed = graph.revision();
  snapshot.restore(graph);
  EXPECT_EQ(to_text(graph), text);
  EXPECT_GT(graph.revision(), changed);
  EXPECT_TRUE(at::equal(executor.run(inputs)[0], before));
}

TEST(Reference, KeepsTheAnswersOfTheNetworkAsItWas) {
  Small made = small();
  const at::Tensor want = Executor(made.network, Precision::Float).run(made.data.inputs(made.network, 1))[0];
  for (const int64_t room : {int64_t{0}, int64_t{300}, int64_t{1} << 20}) {
    Reference reference(made.network, made.data, {}, room);
    Graph changed = made.network.clone();
    changed.find_variable("first.weight")->set_value(at::zeros({5, 3, 3, 3}));
    for (int times = 0; times < 2; ++times) EXPECT_TRUE(at::equal(reference.answers(1)[0], want));
  }
}

TEST(Reference, MeasuresNoiseOverSignal) {
  Small made = small();
  // Of two tensors one is ten percent too large.
  Reference reference(made.network, made.data, {"relu", made.network.find_operation("first")->output()->name()});
  Executor executor(made.network, Precision::Float);
  EXPECT_EQ(reference.error(made.network, executor), 0);
  executor.set_hook([](SlotEvent& event) {
    if (event.is_output && event.operation.name() == "relu") event.value = event.raw * 1.1;
  });
  EXPECT_NEAR(reference.error(made.network, executor), 0.01 / 2, 1e-6);
  // Of the outputs: against double precision by hand.
  Reference outputs(made.quantized, made.data);
  double noise = 0, signal = 0;
  for (size_t batch = 0; batch < made.data.size(); ++batch) {
    const Tensors inputs = made.data.inputs(made.quantized, batch);
    const at::Tensor f = Executor(made.network, Precision::Float).run(inputs)[0].to(at::kDouble);
    const at::Tensor q = Executor(made.quantized, Precision::Simulated).run(inputs)[0].to(at::kDouble);
    noise += (q - f).square().sum().item<double>();
    signal += f.square().sum().item<double>();
  }
  EXPECT_GT(noise, 0);
  EXPECT_NEAR(outputs.simulated_error(made.quantized), noise / signal, 1e-9 * noise / signal + 1e-12);
  EXPECT_THAT(test::user_error_of([&] { Reference(made.network, made.data, {"nothing"}); }),
              HasSubstr("no tensor 'nothing'"));
}

/// What kernels make of images that lie otherwise in memory: trials of passes feed such.
TEST(ChannelsInnermost, GiveTheSameNumbers) {
  test::GraphBuilder net;
  Variable* x = net.conv("c1", net.input({1, 3, 16, 16}), 8);
  x = net.op("PRelu", "slopes", {x, net.constant("slope", at::rand({8, 1, 1}))});
  Variable* pooled = net.op("MaxPool", "pool", {x}, {{"kernel_shape", Shape{2, 2}}, {"strides", Shape{2, 2}}});
  Variable* mean = net.op("AveragePool", "mean", {x}, {{"kernel_shape", Shape{2, 2}}, {"strides", Shape{2, 2}}});
  x = net.op("Concat", "both", {net.op("Clip", "clip", {pooled, net.scalar(0), net.scalar(2)}), mean}, {{"axis", 1}});
  x = net.op("Mul", "gated", {x, net.op("Sigmoid", "gate", {net.conv("c2", x, 16, 1)})});
  x = net.op("Transpose", "turned", {net.op("Add", "sum", {x, net.conv("c3", x, 16)})}, {{"perm", Shape{0, 2, 1, 3}}});
  x = net.op("Softmax", "probabilities", {net.op("Reshape", "flat", {x, net.integers({1, 64, 16})})}, {{"axis", -1}});
  net.output(x);
  const Dataset data = net.data(8), innermost = channels_innermost(data);
  EXPECT_TRUE(innermost[0].begin()->second.equal(data[0].begin()->second));
  EXPECT_EQ(innermost[0].begin()->second.stride(1), 1);
  for (const std::string_view target : {"esp32p4", "esp32s3"}) {
    Recipe recipe;
    recipe.target = target;
    const Conversion made = convert(net.graph, data, recipe);
    for (const Precision precision : {Precision::Float, Precision::Simulated}) {
      Executor executor(made.quantized, precision);
      for (size_t i = 0; i < data.size(); ++i) {
        const at::Tensor want = executor.run(data.inputs(made.quantized, i))[0],
                         got = executor.run(innermost.inputs(made.quantized, i))[0];
        // Sums in another order differ in last bits, which turn a rounding over now and then: one step of 2^-7.
        const double most = precision == Precision::Float ? 1e-5 : 0.0079;
        EXPECT_LE((got - want).abs().max().item<double>(), most) << target;
        EXPECT_LE((got - want).abs().mean().item<double>(), most / 50) << target;
      }
    }
  }
}

}  // namespace
}  // namespace espq
