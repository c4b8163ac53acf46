#include "passes/pipeline/check.h"

#include <gmock/gmock.h>

#include "passes/pipeline/convert.h"
#include "tests/support/graph_builder.h"

namespace espq::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Check, TellsOfEveryOperationByItsName) {
  GraphBuilder net;
  Variable* x = net.conv("conv", net.input("x", {1, 4, 8, 8}), 4);
  x = net.op("GlobalMaxPool", "pool", {x});
  net.outputs({net.op("CumSum", "sum", {x, net.constant(at::scalar_tensor(1, at::kLong))})});
  const auto checked = check_network(net.graph, {});
  ASSERT_EQ(checked.size(), 3U);
  EXPECT_EQ(checked[0].verdict, Verdict::Runs);
  EXPECT_EQ(checked[1].verdict, Verdict::Rewritten);
  EXPECT_THAT(checked[1].rewrites, ElementsAre("GlobalMaxPool became MaxPool"));
  EXPECT_EQ(checked[2].name, "sum");
  EXPECT_EQ(checked[2].verdict, Verdict::CannotRun);
  EXPECT_THAT(checked[2].refusals.at(0).why, HasSubstr("has no float kernel for it"));
  EXPECT_TRUE(cannot_run(checked));
}

TEST(Check, WhatReplacesAnOperatorWithoutGridsHasTheWidthOfTheNetwork) {
  GraphBuilder net;
  Variable *a = net.input("a", {1, 4, 5}), *b = net.input("b", {1, 4, 5}), *c = net.input("c", {1, 4, 5});
  net.outputs({net.op("Sum", "sum", {a, b, c}), net.op("Expand", "expand", {a, net.integers({3, 4, 5})})});
  Recipe recipe;
  recipe.widths.bits = 16;
  const Graph prepared = prepare(net.graph, recipe);
  for (const Operation* operation : prepared.operations())
    EXPECT_EQ(operation->width(), Width::Int16) << operation->name();
}

// The kernel of Resize has 8 bits; MatMul has 16.
TEST(Check, WhatReplacesAnOperatorOfEightBitsAloneHasTheWidthOfTheNetwork) {
  GraphBuilder net;
  net.outputs({net.op("Resize", "resize",
                      {net.input("x", {1, 4, 3, 6}), nullptr, net.constant(at::tensor({1.f, 1.f, 1.f, 2.f}))},
                      {{"mode", std::string("cubic")}})});
  Recipe recipe;
  recipe.widths.bits = 16;
  const Graph network = prepare(net.graph, recipe);
  EXPECT_THAT(types(network), testing::Contains("MatMul"));
  for (const Operation* operation : network.operations())
    EXPECT_EQ(operation->width(), Width::Int16) << operation->name();
}

// On the chip the Transposes go: the LayerNormalization reads what the Conv writes, channels last.
TEST(Check, ANormalizationOfChannelsConverts) {
  GraphBuilder net;
  const auto turned = [&](const char* name, Variable* x, Shape order) {
    return net.op("Transpose", name, {x}, {{"perm", std::move(order)}});
  };
  Variable* rows = turned("rows", net.conv("front", net.input("x", {1, 3, 5, 6}), 8), {0, 2, 3, 1});
  Variable* normal = net.op("LayerNormalization", "norm", {rows, net.random({8}), net.random({8})});
  net.outputs({net.conv("back", turned("planes", normal, {0, 3, 1, 2}), 4)});
  const Conversion made = convert(net.graph, net.data());
  EXPECT_THAT(types(made.chip), ElementsAre("Conv", "LayerNormalization", "Conv"));
}

TEST(Check, AllowsKernelsOfTheApplication) {
  GraphBuilder net;
  net.outputs({net.op("CumSum", "sum", {net.input("x", {1, 8}), net.constant(at::scalar_tensor(1, at::kLong))})});
  Recipe recipe;
  recipe.widths.check_kernels = false;
  EXPECT_FALSE(cannot_run(check_network(net.graph, recipe)));
}

TEST(Check, LeavesTheNetworkAsItIs) {
  GraphBuilder net;
  net.outputs({net.op("GlobalMaxPool", "pool", {net.input("x", {1, 4, 8, 8})})});
  const uint64_t revision = net.graph.revision();
  check_network(net.graph, {});
  EXPECT_EQ(net.graph.revision(), revision);
}

}  // namespace
}  // namespace espq::test
