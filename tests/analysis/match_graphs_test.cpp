#include "core/analysis/match_graphs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/support/error.h"
#include "passes/lowering/lower.h"
#include "tests/support/graph_builder.h"

namespace espq {
namespace {

using namespace test;
using ::testing::ElementsAre;
using Orders = std::vector<std::vector<int64_t>>;

TEST(FittingOrders, Table) {
  const struct {
    Shape a, b;
    bool last;
    Orders want;
  } cases[] = {
      {{1, 3, 8, 6}, {1, 8, 6, 3}, true, {{0, 2, 3, 1}}},
      {{1, 3, 8, 6}, {1, 3, 8, 6}, true, {{0, 1, 2, 3}}},
      {{1, 8, 6, 3}, {1, 3, 8, 6}, false, {{0, 3, 1, 2}}},
      {{1, 4, 4, 4}, {1, 4, 4, 4}, true, {{0, 2, 3, 1}, {0, 1, 2, 3}, {0, 3, 1, 2}}},
      {{1, 4, 4, 4}, {1, 4, 4, 4}, false, {{0, 1, 2, 3}, {0, 2, 3, 1}, {0, 3, 1, 2}}},
      {{1, 8, 1, 1}, {1, 1, 1, 8}, true, {{0, 2, 3, 1}}},  // moving dimensions of size 1 moves no value
      {{1, 5, 7}, {1, 7, 5}, true, {{0, 2, 1}}},
      {{1, 3, 8, 6}, {1, 6, 8, 3}, true, {{0, 3, 2, 1}}},
      {{2, 3}, {3, 2}, false, {{1, 0}}},
      {{2, 3}, {6}, false, {}},
      {{2, 3}, {2, 4}, false, {}},
      {{}, {}, false, {{}}},
  };
  for (const auto& one : cases)
    EXPECT_EQ(fitting_orders(one.a, one.b, one.last), one.want) << fmt::format("{} {}", one.a, one.b);
}

/// Two convolutions, the first with Relu, and an Add of their results.
GraphBuilder network() {
  GraphBuilder net("esp32p4");
  Variable* x = net.input("x", {1, 3, 8, 8});
  Operation& first = *net.quantized_conv("first", x, 8, 3)->producer();
  Operation& relu = *net.quantized("Relu", "relu", {first.output()})->producer();
  Operation& second = *net.quantized_conv("second", relu.output(), 8, 3)->producer();
  Operation& sum = *net.quantized("Add", "sum", {relu.output(), second.output()})->producer();
  net.outputs({sum.output()});
  return net;
}

std::vector<std::string> pairs(const std::vector<TensorMatch>& matches) {
  std::vector<std::string> result;
  result.reserve(matches.size());
  for (const TensorMatch& match : matches) result.push_back(match.a->name() + "=" + match.b->name());
  return result;
}

TEST(MatchGraphs, ByName) {
  const GraphBuilder net = network();
  const Graph chip = lower(net.graph);
  const GraphMatch match = match_graphs(net.graph, chip);
  EXPECT_THAT(pairs(match.inputs), ElementsAre("x=x"));
  EXPECT_THAT(pairs(match.outputs), ElementsAre("sum=sum"));
  EXPECT_THAT(pairs(match.layers), ElementsAre("relu=relu", "second=second", "sum=sum"));
  for (const TensorMatch& layer : match.layers) {
    EXPECT_TRUE(layer.by_name);
    EXPECT_EQ(layer.orders, (Orders{{0, 2, 3, 1}}));
  }
}

TEST(MatchGraphs, ByPlaceWhenNamesAreLost) {
  const GraphBuilder net = network();
  Graph chip = lower(net.graph);
  int number = 0;
  for (Variable* variable : chip.variables()) chip.rename(*variable, fmt::format("t{}", number++));
  const GraphMatch match = match_graphs(net.graph, chip);
  ASSERT_EQ(match.layers.size(), 3u);
  // The convolution with its fused Relu stands for both.
  EXPECT_EQ(match.layers[0].a->name(), "relu");
  EXPECT_EQ(match.layers[1].a->name(), "second");
  EXPECT_EQ(match.layers[2].a->name(), "sum");
  EXPECT_FALSE(match.layers[0].by_name);
  EXPECT_TRUE(match.unmatched.empty());
}

TEST(MatchGraphs, NamesWhatIsNotThere) {
  const GraphBuilder net = network();
  GraphBuilder other("esp32p4");
  Operation& first = *other.quantized_conv("first", other.input("x", {1, 3, 8, 8}), 8, 3)->producer();
  Operation& extra = *other.quantized("Sigmoid", "extra", {first.output()})->producer();
  other.outputs({extra.output()});
  const GraphMatch match = match_graphs(net.graph, other.graph);
  EXPECT_THAT(pairs(match.layers), ElementsAre("first=first", "sum=extra"));  // outputs match by position
  GraphBuilder two("esp32p4");
  Operation& sum =
      *two.quantized("Add", "sum", {two.input("x", {1, 3, 8, 8}), two.input("y", {1, 3, 8, 8})})->producer();
  two.outputs({sum.output()});
  EXPECT_THROW(match_graphs(net.graph, two.graph), UserError);
}

}  // namespace
}  // namespace espq
