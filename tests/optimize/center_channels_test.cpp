// Channels in the middle of their grid, on residual networks whose channels have means.
#include "passes/optimize/center_channels.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/exec/executor.h"
#include "core/ops/linear.h"
#include "passes/optimize/reference.h"
#include "passes/pipeline/convert.h"
#include "tests/optimize/noise.h"
#include "tests/support/graph_builder.h"

namespace espq {
namespace {

using test::GraphBuilder;
using test::noise_with;
using test::pictures;
using ::testing::HasSubstr;

/// Channels between -40 and 70: nothing of that is information.
at::Tensor means() { return at::linspace(-40, 70, 8); }

/// A Conv that reads channels with the means `read` and gives results with the means `given`, as networks that were
/// trained with BatchNormalization do.
Variable* layer(GraphBuilder& net, const std::string& name, Variable* x, const at::Tensor& read,
                const at::Tensor& given, int64_t kernel = 1, int64_t padding = 0) {
  Variable* weight = net.random(name + ".weight", {given.numel(), read.numel(), kernel, kernel}, 0.3);
  const at::Tensor bias = given - weight->value().sum({2, 3}).matmul(read);
  return net.op("Conv", name, {x, weight, net.constant(name + ".bias", bias)},
                {{"pads", std::vector<int64_t>(4, padding)}});
}

/// p1 -> e1 Relu p2 -> Add(p1, p2) -> pool -> e2: two results without activation and their sum.
Graph residual(int64_t padding = 0, bool reads_sum = false) {
  GraphBuilder net;
  Variable* a = layer(net, "p1", net.input({1, 4, 6, 6}), at::full({4}, 0.5), means());
  Variable* inside = net.op("Relu", "r1", {layer(net, "e1", a, means(), at::zeros({16}))});
  Variable* b = layer(net, "p2", inside, at::zeros({16}), means().flip(0));
  Variable* sum = net.op("Add", "sum", {a, b});
  Variable* pooled = net.op("AveragePool", "pool", {sum},
                            {{"kernel_shape", std::vector<int64_t>{2, 2}}, {"strides", std::vector<int64_t>{2, 2}}});
  Variable* last = layer(net, "e2", pooled, means() + means().flip(0), at::zeros({4}), 3, padding);
  if (reads_sum)
    net.outputs({last, net.op("Relu", "r2", {sum})});
  else
    net.output(last);
  return std::move(net.graph);
}

at::Tensor middle(const Graph& graph, const std::string& name, const Dataset& data) {
  Executor executor(graph, Precision::Float);
  const Variable* variable = graph.find_operation(name)->output();
  at::Tensor highest, lowest;
  for (size_t i = 0; i < data.size(); ++i) {
    const at::Tensor rows = executor.run(data.inputs(graph, i), {variable})[0][0].flatten(1);
    highest = highest.defined() ? at::maximum(highest, rows.amax(1)) : rows.amax(1);
    lowest = lowest.defined() ? at::minimum(lowest, rows.amin(1)) : rows.amin(1);
  }
  return (highest + lowest) / 2;
}

TEST(CenterChannels, BringsLayersOrSumsToTheMiddleAndKeepsTheFunction) {
  const Graph network = residual();
  const Dataset data = pictures(network, 8, 1);
  const CenteredChannels centered(network, data);
  ASSERT_TRUE(centered.any());
  // Numbers that are added cancel to float32 rounding of numbers up to 70.
  const auto is_zero = [](const at::Tensor& value) { return value.abs().max().item<double>() < 1e-3; };
  Graph layers = network.clone(), sums = network.clone();
  EXPECT_EQ(centered.apply(layers, CenterOf::Layers).times("layer whose results were centered"), 2);
  EXPECT_TRUE(is_zero(middle(layers, "p1", data)));
  EXPECT_TRUE(is_zero(middle(layers, "p2", data)));
  EXPECT_TRUE(centered.apply(sums, CenterOf::Sums).changed());
  EXPECT_TRUE(is_zero(middle(sums, "sum", data)));
  EXPECT_FALSE(is_zero(middle(network, "sum", data)));
  // On data that nobody saw: the function is that of the weights.
  Reference unseen(network, pictures(network, 4, 77));
  EXPECT_LT(unseen.float_error(layers), kSameFunction);
  EXPECT_LT(unseen.float_error(sums), kSameFunction);
}

TEST(CenterChannels, LeavesAloneWhatOthersWouldNotice) {
  const auto moved = [](const Graph& network) {
    Graph copy = network.clone();
    const PassReport report = CenteredChannels(network, pictures(network, 4, 1)).apply(copy, CenterOf::Layers);
    return report.total();
  };
  EXPECT_EQ(moved(residual()), 2);
  // A border of zeros would stand out from the channels, and a Relu cuts at zero.
  EXPECT_EQ(moved(residual(1)), 0);
  EXPECT_EQ(moved(residual(0, true)), 0);
}

TEST(CenterChannels, LowersTheNoise) {
  const Graph network = residual();
  for (const std::string_view target : {"esp32p4", "esp32s3"}) {
    Recipe recipe;
    recipe.target = target;
    const double plain = noise_with(network, recipe);
    recipe.center_channels.emplace();
    // Ranges of 70 to both sides become ranges of a few: three bits, 18 dB, of what the sum and its operands add.
    EXPECT_LT(noise_with(network, recipe), 0.05 * plain) << target;
  }
}

TEST(CenterChannels, RefusesOptionsThatMakeNoSense) {
  EXPECT_THAT(test::refusal_of(residual(), [](Recipe& recipe) { recipe.center_channels.emplace().batches = 0; }),
              HasSubstr("center_channels.batches: 0 is less than 1"));
}

}  // namespace
}  // namespace espq
