#include "passes/optimize/virtual_zero_point.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/analysis/measure.h"
#include "core/exec/executor.h"
#include "core/exec/float_layout.h"
#include "passes/pipeline/convert.h"
#include "tests/optimize/noise.h"
#include "tests/support/graph_builder.h"
#include "tests/user_error.h"

namespace espq {
namespace {

using test::GraphBuilder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// A bottleneck whose middle tensors are read by layers without padding.
Graph pointwise_network(std::string_view activation = "Relu") {
  GraphBuilder net;
  const auto act = [&](std::string_view name, Variable* value) {
    if (activation == "Clip") return net.op("Clip", name, {value, net.scalar(0), net.scalar(127.0 / 64)});
    return net.op(activation, name, {value});
  };
  Variable* x = act("a1", net.conv("c1", net.input({1, 3, 8, 8}), 16));
  x = act("a2", net.conv("c2", x, 16, 1));
  x = net.op("MaxPool", "pool", {x},
             {{"kernel_shape", std::vector<int64_t>{2, 2}}, {"strides", std::vector<int64_t>{2, 2}}});
  net.output(net.conv("c3", x, 8, 1));
  return std::move(net.graph);
}

Conversion converted(const Graph& network, std::string_view target, bool shifted) {
  Recipe recipe;
  recipe.target = target;
  if (shifted) recipe.virtual_zero_point.emplace();
  return convert(network, test::pictures(network, 16, 1), recipe);
}

double noise_of(const Graph& network, const Conversion& made) {
  Executor exact(network, Precision::Float), board(made.chip, Precision::Board);
  const Dataset unseen = test::pictures(network, 16, 2);
  double noise = 0;
  for (size_t i = 0; i < unseen.size(); ++i) {
    const Tensors inputs = unseen.inputs(network, i);
    noise +=
        measure(Measure::NoiseToSignal, run_in_float_layout(board, made.chip, inputs)[0], exact.run(inputs)[0]) / 16;
  }
  return noise;
}

TEST(VirtualZeroPoint, HalvesTheStepOfTensorsThatAreNeverNegative) {
  for (const std::string_view activation : {"Relu", "Clip"})
    for (const std::string_view target : {"esp32p4", "esp32s3", "c"}) {
      const Graph network = pointwise_network(activation);
      const Conversion plain = converted(network, target, false), shifted = converted(network, target, true);
      const PassReport& report = *shifted.report.find("virtual_zero_point");
      EXPECT_EQ(report.total(), 2) << to_text(report);
      // Two of the three tensors lose three quarters of their noise. Bounded ones are small beside the steps of the
      // result, which rounds as before.
      const double share = activation == "Clip" ? 1.0 : 0.8;
      EXPECT_LT(noise_of(network, shifted), noise_of(network, plain) * share) << activation << " on " << target;
      EXPECT_EQ(test::types(shifted.chip), test::types(plain.chip));
    }
}

TEST(VirtualZeroPoint, CodesAreThoseOfAnUnsignedTensorLess128) {
  // One layer, whose results an unsigned 8-bit tensor of the same step would hold: computed here from the integers.
  const Graph network = pointwise_network();
  const Conversion made = converted(network, "esp32p4", true);
  const Operation& front = *made.quantized.find_operation("c1");
  const int exponent = slot_exponents(made.quantized, made.quantized.find_operation("a1")->output_quant()[0])[0];
  Executor simulated(made.quantized, Precision::Simulated), exact(network, Precision::Float);
  const Tensors inputs = test::pictures(network, 1, 3).inputs(network, 0);
  const Variable* shifted = made.quantized.find_variable(made.quantized.find_operation("a1")->output()->name());
  const at::Tensor codes = simulated.run(inputs, {shifted})[0].mul(std::ldexp(1.0, -exponent));
  EXPECT_TRUE(codes.equal(codes.round()));
  EXPECT_EQ(codes.min().item<float>(), -128);
  EXPECT_GT(codes.max().item<float>(), 0);
  // The sum in front, without the shift, rounded to a grid from 0 to 255.
  const at::Tensor sums = simulated.run(inputs, {front.output()})[0] + std::ldexp(128.0, exponent);
  const at::Tensor unsigned_codes = at::round(sums.to(at::kDouble) * std::ldexp(1.0, -exponent)).clamp(0, 255);
  EXPECT_TRUE((unsigned_codes - 128).to(at::kFloat).equal(codes));
}

/// Two layers pad the first tensor in the same way, a third the second one.
Graph padding_network() {
  GraphBuilder net;
  Variable* x = net.op("Relu", "a1", {net.conv("c1", net.input({1, 3, 12, 12}), 16)});
  Variable* left = net.op("Relu", "a2", {net.conv("c2", x, 16)});
  Variable* right = net.conv("c3", x, 16);
  net.output(net.op("Add", "sum", {net.conv("c4", left, 16), right}));
  return std::move(net.graph);
}

TEST(VirtualZeroPoint, PadsInFrontOfLayersThatPad) {
  const Graph network = padding_network();
  for (const std::string_view target : {"esp32p4", "esp32s3", "c"}) {
    const Conversion plain = converted(network, target, false), shifted = converted(network, target, true);
    const PassReport& report = *shifted.report.find("virtual_zero_point");
    EXPECT_EQ(report.total(), 2) << to_text(report);
    const std::vector<std::string> types = test::types(shifted.chip);
    EXPECT_EQ(std::count(types.begin(), types.end(), "Pad"), 2) << "one for both readers of the first tensor";
    for (const std::string name : {"c2", "c3", "c4"})
      EXPECT_THAT(shifted.quantized.find_operation(name)->ints_attribute("pads"), ElementsAre(0, 0, 0, 0)) << name;
    // The two lose three quarters of their noise; three results behind them, and weights, are rounded as before.
    EXPECT_LT(noise_of(network, shifted), noise_of(network, plain) * 0.93) << target;
    // What stands for zero is the lowest code.
    const Operation& pad = *shifted.quantized.find_operation("c4_pad");
    const int exponent = slot_exponents(shifted.quantized, pad.output_quant()[0])[0];
    EXPECT_EQ(pad.input(2)->value().item<double>(), std::ldexp(-128.0, exponent));
  }
}

TEST(VirtualZeroPoint, TheReferenceIsShiftedAndComputesTheSame) {
  const Graph network = padding_network();
  const Conversion made = converted(network, "esp32p4", true);
  Executor exact(network, Precision::Float), reference(made.reference, Precision::Float);
  const Tensors inputs = test::pictures(network, 1, 3).inputs(network, 0);
  const at::Tensor want = exact.run(inputs)[0];
  // Sums of another order and size: the error of float32 grows with the shift, which is 128 steps of the finer grid.
  EXPECT_LT((reference.run(inputs)[0] - want).abs().max().item<double>(), 1e-5 * want.abs().max().item<double>() * 16);
  // Its tensors are those of the quantized network, to the rounding of the latter.
  const Variable *theirs = made.reference.find_operation("a1")->output(),
                 *ours = made.quantized.find_operation("a1")->output();
  Executor simulated(made.quantized, Precision::Simulated);
  const int exponent = slot_exponents(made.quantized, made.quantized.find_operation("a1")->output_quant()[0])[0];
  const at::Tensor difference = simulated.run(inputs, {ours})[0] - reference.run(inputs, {theirs})[0];
  EXPECT_LT(difference.abs().mean().item<double>(), 2 * std::ldexp(1.0, exponent));
}

TEST(VirtualZeroPoint, PadsAreAChoice) {
  const Graph network = padding_network();
  Recipe recipe;
  recipe.target = "esp32p4";
  recipe.virtual_zero_point.emplace().pads = false;
  EXPECT_FALSE(convert(network, test::pictures(network, 16, 1), recipe).report.find("virtual_zero_point")->changed());
  recipe.virtual_zero_point->pads = true;
  recipe.virtual_zero_point->pad_gain = 60;
  EXPECT_FALSE(convert(network, test::pictures(network, 16, 1), recipe).report.find("virtual_zero_point")->changed());
}

TEST(VirtualZeroPoint, LeavesTensorsThatAreAdded) {
  GraphBuilder net;
  Variable* x = net.op("Relu", "r1", {net.conv("c1", net.input({1, 3, 8, 8}), 8)});
  Variable* y = net.op("Relu", "r2", {net.conv("c2", x, 8)});
  Variable* sum = net.op("Add", "sum", {x, y});
  net.output(net.conv("c3", sum, 4, 1));
  const Conversion made = converted(net.graph, "esp32p4", true);
  EXPECT_FALSE(made.report.find("virtual_zero_point")->changed());
}

TEST(VirtualZeroPoint, LeavesResultsOfTheNetwork) {
  GraphBuilder net;
  Variable* x = net.op("Relu", "r", {net.conv("c1", net.input({1, 3, 8, 8}), 8)});
  net.outputs({net.conv("c2", x, 4, 1), x});
  EXPECT_FALSE(converted(net.graph, "esp32p4", true).report.find("virtual_zero_point")->changed());
}

TEST(VirtualZeroPoint, RefusesNonsense) {
  const Graph network = pointwise_network();
  Recipe recipe;
  recipe.virtual_zero_point.emplace().batches = 0;
  EXPECT_THAT(test::user_error_of([&] { convert(network, test::pictures(network, 4, 1), recipe); }),
              HasSubstr("virtual_zero_point.batches: 0 is less than 1"));
  recipe.virtual_zero_point = {.pad_gain = -1};
  EXPECT_THAT(test::user_error_of([&] { convert(network, test::pictures(network, 4, 1), recipe); }),
              HasSubstr("virtual_zero_point.pad_gain: -1 is less than 0"));
}

}  // namespace
}  // namespace espq
