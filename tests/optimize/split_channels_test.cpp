// Channels that are too large for the grid of the others, split in two.
#include "passes/optimize/split_channels.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

struct Kind {
  const char* between = "Relu";  ///< what stands behind both layers in front
  bool residual = false;
  bool depthwise = false;
  bool reads_front = false;  ///< the split channels leave the network, too
};

/// Two layers with 32 channels, added with `residual`, and one that reads them. One row in front is `outlier` times as
/// large as the others, and what reads it as much smaller.
Graph network(double outlier, const Kind& kind = {}) {
  GraphBuilder net;
  Variable* x = net.input({1, 4, 8, 8});
  at::Tensor sizes = at::ones({32});
  sizes[7] = outlier;
  const auto front = [&](const std::string& name) {
    Variable* weight = net.random(name + ".weight", {32, 4, 3, 3}, 0.3);
    weight->set_value(weight->value() * sizes.view({32, 1, 1, 1}));
    return net.op(kind.between, name + ".act",
                  {net.op("Conv", name, {x, weight, net.random(name + ".bias", {32}, 0.1)})});
  };
  Variable* value = front("front");
  if (kind.residual) value = net.op("Add", "sum", {value, front("beside")});
  if (kind.depthwise)
    value =
        net.op("Conv", "depthwise", {value, net.random("depthwise.weight", {32, 1, 3, 3})}, {{"group", int64_t{32}}});
  Variable* pooled = net.op("MaxPool", "pool", {value}, {{"kernel_shape", std::vector<int64_t>{2, 2}}});
  Variable* weight = net.random("back.weight", {8, 32, 1, 1}, 0.3);
  weight->set_value(weight->value() / sizes.view({1, 32, 1, 1}));
  Variable* last = net.op("Conv", "back", {pooled, weight, net.random("back.bias", {8}, 0.1)});
  if (kind.reads_front)
    net.outputs({last, value});
  else
    net.output(last);
  infer_shapes(net.graph, zero_inputs(net.graph));
  return std::move(net.graph);
}

int64_t rows_of(const Graph& graph, const std::string& name) {
  return linear_operation(*graph.find_operation(name))->rows();
}

Graph split(const Graph& graph, SplitChannelsOf what, std::string_view target = "esp32s3",
            const SplitChannelsOptions& options = {}) {
  Graph copy = graph.clone();
  SplitChannels(graph, pictures(graph, 8, 1), options).apply(copy, find_target(target), what);
  return copy;
}

TEST(SplitChannels, MakesTwoOfTheLargestAndKeepsTheFunction) {
  for (const bool residual : {false, true}) {
    const Graph graph = network(6, {.residual = residual});
    for (const SplitChannelsOf what : {SplitChannelsOf::Results, SplitChannelsOf::Weights}) {
      const Graph changed = split(graph, what);
      ASSERT_GT(rows_of(changed, "front"), 32) << residual;
      EXPECT_LE(rows_of(changed, "front"), 34) << residual;
      EXPECT_EQ(linear_operation(*changed.find_operation("back"))->input_channels(), rows_of(changed, "front"));
      if (residual) {
        EXPECT_EQ(rows_of(changed, "beside"), rows_of(changed, "front"));
      }
      // On data that nobody saw: the function is that of the weights.
      Reference unseen(graph, pictures(graph, 4, 77));
      EXPECT_LT(unseen.float_error(changed), kSameFunction);
    }
  }
}

TEST(SplitChannels, HalvesWhatTheGridHasToHold) {
  const Graph graph = network(6);
  const auto largest_row = [](const Graph& network) {
    return linear_operation(*network.find_operation("front"))->weight().abs().max().item<double>();
  };
  const Graph changed = split(graph, SplitChannelsOf::Weights);
  EXPECT_LE(largest_row(changed), std::exp2(std::ceil(std::log2(largest_row(graph))) - 1));
  // The reader's rows add up both halves: the same factor for each.
  const at::Tensor columns = linear_operation(*changed.find_operation("back"))->weight();
  const at::Tensor first = columns.select(1, 7), second = columns.select(1, columns.size(1) - 1);
  EXPECT_EQ(rows_of(changed, "front"), 33);
  EXPECT_TRUE(first.equal(second));
}

TEST(SplitChannels, LeavesWhatOthersWouldNotice) {
  const auto rows = [](const Kind& kind) {
    return rows_of(split(network(6, kind), SplitChannelsOf::Results), "front");
  };
  EXPECT_GT(rows({}), 32);
  EXPECT_EQ(rows({.depthwise = true}), 32);     // would need another filter
  EXPECT_EQ(rows({.reads_front = true}), 32);   // whoever reads it expects 32
  EXPECT_EQ(rows({.between = "Sigmoid"}), 32);  // half of it is something else
}

TEST(SplitChannels, SplitsFewOrNone) {
  // Where every channel needs the whole grid there is nobody who would gain.
  EXPECT_EQ(rows_of(split(network(1), SplitChannelsOf::Weights), "front"), 32);
  // Other layers' names.
  const SplitChannelsOptions other{.names = {"back"}};
  EXPECT_EQ(rows_of(split(network(6), SplitChannelsOf::Results, "esp32s3", other), "front"), 32);
  // Rows with exponents of their own have nothing to gain.
  EXPECT_EQ(rows_of(split(network(6), SplitChannelsOf::Weights, "esp32p4"), "front"), 32);
}

TEST(SplitChannels, LowersTheNoise) {
  const Graph graph = network(6);
  Recipe recipe;
  recipe.target = "esp32s3";
  recipe.calibration.observer = recipe.calibration.parameter_observer = Observer::MinMax;
  const double plain = noise_with(graph, recipe);
  recipe.split_channels.emplace();
  // One bit for the other 31 channels' weights or results is 6 dB of what those add.
  EXPECT_LT(noise_with(graph, recipe), 0.8 * plain);
}

TEST(SplitChannels, RefusesOptionsThatMakeNoSense) {
  const auto refused = [](const std::function<void(SplitChannelsOptions&)>& change) {
    return test::refusal_of(network(6), [&](Recipe& recipe) { change(recipe.split_channels.emplace()); });
  };
  EXPECT_THAT(refused([](auto& options) { options.batches = 0; }),
              HasSubstr("split_channels.batches: 0 is less than 1"));
  EXPECT_THAT(refused([](auto& options) { options.share = 2; }), HasSubstr("split_channels.share"));
  EXPECT_THAT(
      refused([](auto& options) { options.names = {"frnt"}; }),
      HasSubstr("split_channels.names: no layer with constant weights is called 'frnt'; did you mean 'front'?"));
}

}  // namespace
}  // namespace espq
