// Passes that bring a quantized network back to its float answers, on networks made for them.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/exec/executor.h"
#include "core/ops/linear.h"
#include "passes/optimize/correct_biases.h"
#include "passes/optimize/mixed_precision.h"
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
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

/// Weights that all round up: the steps of the grid are coarse beside them, because of one large weight per row.
Graph network_with_a_bias_of_rounding() {
  GraphBuilder net;
  const auto rounded_up = [&](std::string_view name, Variable* source, int64_t channels, int64_t inputs) {
    at::Tensor weight = at::full({channels, inputs, 3, 3}, 0.62F / 64);
    weight.select(1, 0).select(1, 1).select(1, 1).fill_(1.0F);
    weight.slice(0, 1, channels, 2).mul_(-1);
    Variable* bias = net.constant(std::string(name) + ".bias", at::linspace(-0.5, 0.5, channels));
    return net.op("Conv", name, {source, net.constant(std::string(name) + ".weight", weight), bias},
                  {{"pads", std::vector<int64_t>{1, 1, 1, 1}}});
  };
  Variable* x = net.op("Relu", "r1", {rounded_up("c1", net.input({1, 4, 8, 8}), 8, 4)});
  net.output(rounded_up("c2", x, 4, 8));
  return std::move(net.graph);
}

TEST(CorrectBiases, TakesBackWhatRoundingAddsToTheMean) {
  const Graph network = network_with_a_bias_of_rounding();
  for (const std::string_view target : {"esp32p4", "esp32s3"}) {
    Recipe recipe;
    recipe.target = target;
    const double plain = noise_with(network, recipe);
    recipe.correct_biases.emplace();
    // 0.62 of a step becomes 1 in every weight: nearly all of the error is a shift.
    EXPECT_LT(noise_with(network, recipe), plain * 0.2) << target;
  }
}

TEST(CorrectBiases, OnlyBiasesChange) {
  const Graph network = network_with_a_bias_of_rounding();
  const Dataset data = pictures(network, 8, 1);
  Graph quantized = convert(network, data).quantized;
  const Graph teacher = quantized.clone();
  const PassReport report = correct_biases(quantized, teacher, data);
  EXPECT_TRUE(report.changed()) << to_text(report);
  for (const Variable* variable : teacher.variables()) {
    if (!variable->is_parameter()) continue;
    const bool same = variable->value().equal(quantized.find_variable(variable->name())->value());
    EXPECT_EQ(same, variable->name().find("bias") == std::string::npos) << variable->name();
  }
  EXPECT_EQ(to_text(quantized), to_text(teacher));  // grids and operations
}

TEST(CorrectBiases, IsUndoneWhereItDoesNotHelp) {
  // Without rounding errors there is nothing to correct.
  GraphBuilder net;
  net.output(
      net.op("Conv", "c",
             {net.input({1, 1, 4, 4}), net.constant(at::full({1, 1, 1, 1}, 0.5F)), net.constant(at::zeros({1}))}));
  const Graph network = std::move(net.graph);
  std::vector<Dataset::Batch> batches;
  batches.reserve(8);
  for (int i = 0; i < 8; ++i)
    batches.push_back(
        {{network.inputs()[0]->name(), at::arange(16).sub(i).div(16).to(at::kFloat).reshape({1, 1, 4, 4})}});
  const Dataset data(std::move(batches));
  Graph quantized = convert(network, data).quantized;
  const Graph teacher = quantized.clone();
  const PassReport report = correct_biases(quantized, teacher, data);
  EXPECT_FALSE(report.changed()) << to_text(report);
  EXPECT_TRUE(quantized.find_operation("c")->input(2)->value().equal(teacher.find_operation("c")->input(2)->value()));
}

TEST(CorrectBiases, RefusesNonsense) {
  const Graph network = network_with_a_bias_of_rounding();
  Recipe recipe;
  recipe.correct_biases.emplace().sweeps = 0;
  EXPECT_THAT(test::user_error_of([&] { convert(network, pictures(network, 4, 1), recipe); }),
              HasSubstr("correct_biases.sweeps: 0 is less than 1"));
  recipe.correct_biases.emplace().batches = -1;
  EXPECT_THAT(test::user_error_of([&] { convert(network, pictures(network, 4, 1), recipe); }),
              HasSubstr("correct_biases.batches: -1 is less than 1"));
}

/// The middle layer is the one that 8 bits do not do: its small results, which the last one enlarges, stand beside a
/// large one.
Graph network_with_one_sensitive_layer() {
  GraphBuilder net;
  Variable* x = net.op("Relu", "r1", {net.conv("c1", net.input({1, 3, 8, 8}), 6)});
  at::Tensor wide = at::ones({6});
  wide[0] = 100;
  Variable* middle = net.op("Sigmoid", "s", {net.conv("c2", x, 6)});
  const auto c2 = *linear_operation(*net.graph.find_operation("c2"));
  c2.set_weight(net.graph, c2.scaled_rows(wide));
  net.output(net.conv("c3", middle, 3));
  return std::move(net.graph);
}

TEST(MixedPrecision, FindsTheLayerWhose8BitsCostMost) {
  const Graph network = network_with_one_sensitive_layer();
  Recipe recipe;
  recipe.mixed_precision.emplace().layers = 1;
  const Conversion made = convert(network, pictures(network, 8, 1), recipe);
  ASSERT_THAT(made.recipe.layers, Contains(testing::Key("c2")));
  EXPECT_EQ(made.recipe.layers.at("c2").width, Width::Int16);
  EXPECT_EQ(made.recipe.layers.at("s").width, Width::Int16);  // which would round the result again
  EXPECT_THAT(made.recipe.layers, SizeIs(2));
  EXPECT_FALSE(made.recipe.mixed_precision.has_value());
  const double plain = noise_with(network, {});
  EXPECT_LT(noise_of(network, made.quantized), plain * 0.5);
}

TEST(MixedPrecision, StopsWhereAnotherLayerWouldNotHelp) {
  const Graph network = network_with_one_sensitive_layer();
  Recipe recipe;
  recipe.mixed_precision.emplace().gain = 0.999;
  EXPECT_THAT(convert(network, pictures(network, 8, 1), recipe).recipe.layers, SizeIs(0));
}

TEST(MixedPrecision, LeavesWidthsThatTheRecipeGives) {
  const Graph network = network_with_one_sensitive_layer();
  Recipe recipe;
  recipe.layers["c2"].width = Width::Int8;
  recipe.mixed_precision.emplace().layers = 2;
  EXPECT_EQ(convert(network, pictures(network, 8, 1), recipe).recipe.layers.at("c2").width, Width::Int8);
}

TEST(MixedPrecision, RefusesNonsense) {
  const Graph network = network_with_one_sensitive_layer();
  const auto with = [&](auto change) {
    return test::refusal_of(network, [&](Recipe& recipe) { change(recipe.mixed_precision.emplace()); });
  };
  EXPECT_THAT(with([](auto& options) { options.layers = 0; }), HasSubstr("mixed_precision.layers: 0 is less than 1"));
  EXPECT_THAT(with([](auto& options) { options.gain = 2; }), HasSubstr("mixed_precision.gain: 2 is no share"));
}

}  // namespace
}  // namespace espq
