// What stands between layers in float alone computes in float, too.
#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include "core/exec/executor.h"
#include "core/exec/float_layout.h"
#include "passes/pipeline/convert.h"
#include "passes/quantize/assign_widths.h"
#include "tests/support/graph_builder.h"

namespace espq::test {
namespace {

using testing::ElementsAre;

/// The root of half of x^2 + y^2, as an integer layer reads it: Pow and Sqrt compute in float.
GraphBuilder magnitude(bool sum_leaves = false) {
  GraphBuilder net;
  const auto square = [&](const char* name, const char* input) {
    Variable* source = net.op("Neg", input + std::string("_turned"), {net.input(input, {1, 16})});
    return net.op("Pow", name, {source, net.constant(at::tensor({2.f}))});
  };
  Variable* sum = net.op("Add", "sum", {square("left", "x"), square("right", "y")});
  Variable* half = net.op("Mul", "half", {sum, net.constant(at::tensor({0.5f}))});
  Variable* result = net.op("Neg", "result", {net.op("Sqrt", "root", {half})});
  net.outputs(sum_leaves ? std::vector<Variable*>{result, sum} : std::vector<Variable*>{result});
  return net;
}

std::vector<Width> widths(bool sum_leaves, const Layers& layers, const Quirks& quirks = {}) {
  GraphBuilder net = magnitude(sum_leaves);
  assign_widths(net.graph, {}, layers, quirks);
  std::vector<Width> found;
  for (const char* name : {"x_turned", "sum", "half", "result"}) found.push_back(*net.operation(name).width());
  return found;
}

TEST(FloatIslands, TakeInWhatFloatLayersEnclose) {
  constexpr Width integer = Width::Int8, real = Width::Float;
  EXPECT_THAT(widths(false, {}), ElementsAre(integer, real, real, integer));
  EXPECT_THAT(widths(false, {{"x_turned", {.width = real}}, {"result", {.width = real}}}),
              ElementsAre(real, real, real, real));
  // One that others see in integers, or that the user decided about, is a border; nothing beside it is enclosed.
  EXPECT_THAT(widths(true, {}), ElementsAre(integer, integer, integer, integer));
  EXPECT_THAT(widths(false, {{"half", {.width = Width::Int16}}}), ElementsAre(integer, integer, Width::Int16, integer));
  EXPECT_THAT(widths(false, {{"sum", {.exponent = 0}}}), ElementsAre(integer, integer, integer, integer));
  EXPECT_THAT(widths(false, {}, {.widths_ignore_kernels = true}), ElementsAre(integer, integer, integer, integer));
}

TEST(FloatIslands, LeaveOutLayersWithWeightsAndOperatorsWithoutFloatKernel) {
  GraphBuilder net;
  Variable* front = net.op("Sqrt", "front", {net.input("x", {1, 4, 6, 6})});
  net.outputs({net.op("Sqrt", "behind", {net.conv("conv", front, 4)}),
               net.op("Sqrt", "behind_softplus", {net.op("Softplus", "softplus", {front})})});
  assign_widths(net.graph, {});
  EXPECT_EQ(net.operation("front").width(), Width::Float);
  EXPECT_EQ(net.operation("conv").width(), Width::Int8);
  EXPECT_EQ(net.operation("softplus").width(), Width::Int8);
}

// On a grid of 16 bits that holds the largest square, that of 2^-9 would be zero.
TEST(FloatIslands, KeepSmallNumbersBesideLargeOnes) {
  const GraphBuilder net = magnitude();
  Recipe recipe;
  recipe.widths.bits = 16;
  const at::Tensor samples = at::linspace(-1, 1, 16).view({1, 16});
  const Conversion made = convert(net.graph, Dataset({{{"x", samples}, {"y", -samples}}}), recipe);
  Executor board(made.chip, Precision::Board);
  const at::Tensor small = at::full({1, 16}, std::ldexp(1.f, -9));
  EXPECT_TRUE(at::equal(run_in_float_layout(board, made.chip, {small, small})[0], -small));
}

}  // namespace
}  // namespace espq::test
