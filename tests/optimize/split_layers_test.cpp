#include "passes/optimize/split_layers.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "core/exec/executor.h"
#include "core/ops/linear.h"
#include "passes/optimize/reference.h"
#include "passes/pipeline/convert.h"
#include "tests/optimize/noise.h"
#include "tests/support/graph_builder.h"
#include "tests/user_error.h"

namespace espq {
namespace {

using test::GraphBuilder;
using test::noise_of;
using test::noise_with;
using test::pictures;
using ::testing::HasSubstr;

/// Layers of every kind; `large` is a weight of c2 beside which the others are small.
Graph network(double large = 1) {
  GraphBuilder net;
  Variable* x = net.op("Relu", "r1", {net.conv("c1", net.input({1, 3, 8, 8}), 6)});
  at::Tensor weight = at::linspace(-0.3, 0.3, 54).reshape({6, 1, 3, 3}).to(at::kFloat);
  weight[2][0][1][1] = large;
  x = net.op("Conv", "c2", {x, net.constant("c2.weight", weight), net.constant(at::linspace(-0.1, 0.1, 6))},
             {{"group", int64_t{6}}, {"pads", std::vector<int64_t>{1, 1, 1, 1}}});
  x = net.op("ConvTranspose", "t", {x, net.random({6, 4, 2, 2})}, {{"strides", std::vector<int64_t>{2, 2}}});
  x = net.op("Flatten", "f", {net.op("GlobalAveragePool", "p", {x})});
  x = net.op("Gemm", "g", {x, net.random({4, 8}), net.random({8})});
  net.output(net.op("MatMul", "m", {x, net.random({8, 5})}));
  return std::move(net.graph);
}

const std::vector<std::string> kLayers{"c1", "c2", "t", "g", "m"};

TEST(SplitLayers, LeavesTheFloatFunction) {
  const Graph before = network();
  for (const std::string_view target : {"esp32p4", "esp32s3"})
    for (const SplitMethod method : {SplitMethod::Remainder, SplitMethod::Balance}) {
      Graph after = before.clone();
      const PassReport report =
          split_layers(after, kLayers, find_target(target), {.method = method, .percentile = 0.8});
      EXPECT_EQ(report.times("layer split"), 5) << to_text(report);
      const Dataset data = pictures(before, 2, 5);
      for (size_t i = 0; i < data.size(); ++i) {
        const at::Tensor want = Executor(before, Precision::Float).run(data.inputs(before, i))[0],
                         got = Executor(after, Precision::Float).run(data.inputs(after, i))[0];
        // Sums of 54 products at most, in float32, in another order.
        EXPECT_LT((got - want).abs().max().item<double>(), 1e-5 * want.abs().max().item<double>()) << target;
      }
    }
}

TEST(SplitLayers, FirstPartLiesOnTheGrid) {
  for (const std::string_view target : {"esp32p4", "esp32s3"}) {
    Graph graph = network(1.9);
    split_layers(graph, {"c2"}, find_target(target), {});
    const at::Tensor first = graph.find_operation("c2")->input(1)->value(),
                     rest = graph.find_operation("c2_rest")->input(1)->value();
    // 1.9 takes 127.5 steps of 2^-6, the row with 0.3 on esp32p4 those of 2^-8.
    const double row = target == "esp32s3" ? 64 : 256;
    const at::Tensor codes = first[5] * row;
    EXPECT_TRUE(codes.equal(codes.round())) << target;
    EXPECT_LE(rest[5].abs().max().item<double>(), 0.5 / row) << target;
    EXPECT_GT(rest.count_nonzero().item<int64_t>(), 40) << target;
    EXPECT_EQ(graph.find_operation("c2_rest")->input(2)->value().count_nonzero().item<int64_t>(), 0) << "counts once";
    EXPECT_EQ(graph.find_operation("c2_sum")->type(), "Add");
  }
}

TEST(SplitLayers, HalvesWhatIsLarge) {
  Graph graph = network(1.9);
  split_layers(graph, {"c2"}, find_target("esp32s3"), {.method = SplitMethod::Balance, .threshold = 1.5});
  const at::Tensor rest = graph.find_operation("c2_rest")->input(1)->value();
  EXPECT_EQ(rest.count_nonzero().item<int64_t>(), 1);
  EXPECT_FLOAT_EQ(rest[2][0][1][1].item<float>(), 0.95F);
  EXPECT_FLOAT_EQ(graph.find_operation("c2")->input(1)->value()[2][0][1][1].item<float>(), 0.95F);
}

TEST(SplitLayers, FindsTheLayerWhoseWeightsCostMost) {
  const Graph broken = network(30);
  Recipe recipe;
  recipe.target = "esp32s3";
  const double plain = noise_with(broken, recipe);
  recipe.split_layers = {.layers = 1, .cost = 1};
  const Conversion made = convert(broken, pictures(broken, 8, 1), recipe);
  EXPECT_TRUE(made.quantized.find_operation("c2_rest"));
  EXPECT_FALSE(made.quantized.find_operation("c1_rest"));
  EXPECT_LT(noise_of(broken, made.quantized), plain * 0.5);
}

// Only what follows from a layer is computed again. Here layers lie side by side and around each other, one output
// stands in front of some, and no layer has a bias that corrects anything.
TEST(SplitLayers, RanksLayersAsRunsOfTheWholeNetworkDo) {
  GraphBuilder net;
  const auto convolved = [&](const std::string& name, Variable* source, int64_t size, double large) {
    at::Tensor weight = at::randn({4, size, 1, 1}, at::make_generator<at::CPUGeneratorImpl>(name.size() + name[1]));
    weight[1][0][0][0] = large;
    return net.op("Conv", name, {source, net.constant(name + ".weight", weight)});
  };
  Variable* front = convolved("c1", net.input({1, 3, 8, 8}), 3, 3);
  Variable *left = convolved("c2", front, 4, 20), *right = convolved("c3", net.op("Relu", "r", {front}), 4, 7);
  net.output(net.op("Relu", "r2", {right}));
  net.output(convolved("c4", net.op("Add", "a", {left, right}), 4, 12));
  Recipe recipe;
  recipe.target = "esp32s3";
  recipe.equalize.reset();
  recipe.correct_biases.reset();
  const Graph quantized = convert(net.graph, pictures(net.graph, 4, 1), recipe).quantized.clone();
  Reference reference(quantized, pictures(net.graph, 3, 2));
  std::map<double, std::string> order;
  for (const std::string name : {"c1", "c2", "c3", "c4"}) {
    Executor executor(quantized, Precision::Simulated);
    executor.set_hook([&](SlotEvent& event) {
      if (event.operation.name() == name && !event.is_output && event.slot == 1) event.value = event.raw;
    });
    order.emplace(reference.error(quantized, executor), name);
  }
  std::vector<std::string> want;
  for (const auto& [noise, name] : order) want.push_back(name);
  EXPECT_EQ(want.size(), 4U);
  EXPECT_EQ(worst_weights(quantized, reference), want);
}

TEST(SplitLayers, StopsWhereAnotherLayerWouldNotHelp) {
  const Graph graph = network();
  Recipe recipe;
  recipe.split_layers = {.gain = 0.99, .cost = 1};
  const Conversion made = convert(graph, pictures(graph, 8, 1), recipe);
  for (const std::string& name : kLayers) EXPECT_FALSE(made.quantized.find_operation(name + "_rest")) << name;
}

TEST(SplitLayers, LeavesLayersThatWouldCostTooMuch) {
  const Graph broken = network(30);
  const auto shares = shares_of_multiplications(broken);
  // 6 x 3 x 9, 6 x 9 and 6 x 4 x 4 multiplications at each of 64 places, and 4 x 8 + 8 x 5 of the vectors.
  EXPECT_DOUBLE_EQ(shares.at("c2"), 54.0 * 64 / (162 * 64 + 54 * 64 + 96 * 64 + 72));
  Recipe recipe;
  recipe.target = "esp32s3";
  recipe.split_layers.emplace().cost = 0.001;
  EXPECT_FALSE(convert(broken, pictures(broken, 8, 1), recipe).quantized.find_operation("c2_rest"));
}

TEST(SplitLayers, TakesNamesAndPatterns) {
  const Graph graph = network();
  Recipe recipe;
  recipe.split_layers.emplace().names = {"c?", "m"};
  const Conversion made = convert(graph, pictures(graph, 8, 1), recipe);
  for (const std::string_view name : {"c1", "c2"})
    EXPECT_TRUE(made.quantized.find_operation(std::string(name) + "_rest")) << name;
  EXPECT_FALSE(made.quantized.find_operation("t_rest"));
}

TEST(SplitLayers, RefusesNonsense) {
  const Graph graph = network();
  const auto with = [&](auto change) {
    return test::refusal_of(graph, [&](Recipe& recipe) { change(recipe.split_layers.emplace()); });
  };
  EXPECT_THAT(with([](auto& options) { options.layers = 0; }), HasSubstr("split_layers.layers: 0 is less than 1"));
  EXPECT_THAT(with([](auto& options) { options.percentile = 2; }), HasSubstr("split_layers.percentile: 2 is no share"));
  EXPECT_THAT(with([](auto& options) { options.names = {"c9"}; }),
              HasSubstr("no layer with constant weights is called 'c9'; did you mean 'c1'?"));
  Graph other = graph.clone();
  EXPECT_THAT(test::user_error_of([&] { split_layers(other, {"r1"}, find_target("esp32p4"), {}); }),
              HasSubstr("'r1' (Relu) is no Conv"));
}

}  // namespace
}  // namespace espq
