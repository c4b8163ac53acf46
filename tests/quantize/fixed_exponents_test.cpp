#include <gmock/gmock.h>

#include "core/exec/chip_grid.h"
#include "passes/pipeline/convert.h"
#include "tests/support/graph_builder.h"
#include "tests/user_error.h"

namespace espq {
namespace {

using namespace test;
using test::user_error_of;
using ::testing::HasSubstr;

/// Convolution, Relu, sum with a second input.
GraphBuilder network() {
  GraphBuilder net;
  Variable* conv = net.conv("conv", net.input("image", {1, 3, 6, 6}), 8);
  Variable* relu = net.op("Relu", "relu", {conv});
  net.outputs({net.op("Add", "sum", {relu, net.input("other", {1, 8, 6, 6})})});
  return net;
}

int exponent_of(const Graph& chip, const std::string& tensor) {
  return variable_grid(chip.find_variable(tensor)).exponent();
}

TEST(FixedExponents, TensorsGetTheExponentsOfTheRecipe) {
  const GraphBuilder net = network();
  Recipe recipe;
  const Graph free = convert(net.graph, net.data(2), recipe).chip;
  const int image = exponent_of(free, "image"), relu = exponent_of(free, "relu");
  recipe.layers["image"].exponent = image + 3;
  recipe.layers["relu"].exponent = relu + 2;
  Graph fixed = convert(net.graph, net.data(2), recipe).chip;
  EXPECT_EQ(exponent_of(fixed, "image"), image + 3);
  EXPECT_EQ(exponent_of(fixed, "relu"), relu + 2);
  // The bias follows.
  const auto exponent_of_bias = [](const Graph& chip) {
    return chip.find_operation("conv")->input(2)->storage()->exponents[0] -
           chip.find_operation("conv")->input(1)->storage()->exponents[0];
  };
  EXPECT_EQ(exponent_of_bias(fixed), exponent_of_bias(free) + 3);
  // A sum is aligned with what it reads, whoever fixes it: 8 bits hold [-128, 127] steps.
  recipe.layers.clear();
  recipe.layers["sum"].range = {-100.0, 100.0};
  fixed = convert(net.graph, net.data(2), recipe).chip;
  EXPECT_EQ(exponent_of(fixed, "sum"), 0);
  EXPECT_EQ(exponent_of(fixed, "other"), 0);
  recipe.layers["sum"].range = {-130.0, 100.0};
  EXPECT_EQ(exponent_of(convert(net.graph, net.data(2), recipe).chip, "sum"), 1);
}

TEST(FixedExponents, SaysWhatCannotBe) {
  const GraphBuilder net = network();
  const auto refused = [&](const Layers& layers) {
    Recipe recipe;
    recipe.layers = layers;
    return user_error_of([&] { convert(net.graph, net.data(1), recipe); });
  };
  EXPECT_THAT(refused({{"relu", {.exponent = -60}}}), HasSubstr("the chip cannot shift left"));
  EXPECT_THAT(refused({{"other", {.exponent = -5}}, {"sum", {.exponent = -4}}}), HasSubstr("share one scale"));
  EXPECT_THAT(refused({{"relu", {.range = std::vector<double>{1}}}}), HasSubstr("is no pair of numbers"));
  EXPECT_THAT(refused({{"imag", {.exponent = 1}}}), HasSubstr("has no operation 'imag'"));
  EXPECT_THAT(refused({{"sum", {.width = Width::Float, .exponent = 1}}}), HasSubstr("stays float"));
}

}  // namespace
}  // namespace espq
