#include "passes/optimize/train_thresholds.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "passes/optimize/held_out.h"
#include "passes/optimize/learn_rounding.h"
#include "passes/optimize/reference.h"
#include "passes/pipeline/convert.h"
#include "passes/quantize/settle.h"
#include "tests/support/graph_builder.h"
#include "tests/support/same_graph.h"
#include "tests/user_error.h"

namespace espq {
namespace {

using test::expect_same_graph;
using test::GraphBuilder;
using ::testing::HasSubstr;

/// A network on smooth positive pictures, where what single weights lose adds up, as it does in networks that somebody
/// trained.
struct Small {
  Graph network;
  Dataset calibration, unseen;

  explicit Small(int64_t batches = 64) {
    GraphBuilder net(5);
    Variable* x = net.op("Relu", "relu1", {net.conv("first", net.input({1, 3, 8, 8}), 8)});
    x = net.op("Relu", "relu2", {net.conv("second", x, 8)});
    net.output(net.conv("third", x, 4, 1));
    network = std::move(net.graph);
    at::manual_seed(4);
    const auto draw = [](int64_t count) {
      std::vector<Dataset::Batch> data;
      for (int64_t i = 0; i < count; ++i)
        data.push_back({{"", at::rand({1, 3, 1, 1}) * 2 + 0.5 + 0.2 * at::randn({1, 3, 8, 8})}});
      return Dataset(std::move(data));
    };
    calibration = draw(batches);
    unseen = draw(16);
  }

  /// With weights of four bits, so that their rounding is what matters.
  Graph quantized(const std::string& target) const {
    Recipe recipe;
    recipe.target = target;
    Graph graph = convert(network, calibration, recipe).quantized;
    for (Operation* operation : graph.operations()) {
      if (operation->type() != "Conv") continue;
      SlotQuant& weight = operation->edit_input_quant(1);
      weight.bits = 4;
      std::vector<int> exponents = slot_exponents(graph, weight);
      for (int& exponent : exponents) exponent += 4;
      graph.scales().set_exponents(weight.scale, exponents);
    }
    settle(graph);
    return graph;
  }
  /// Noise over signal on data that no pass has seen.
  double error(const Graph& graph) const { return Reference(network, unseen).simulated_error(graph); }
};

TrainThresholdsOptions quick() {
  TrainThresholdsOptions options;
  options.block_size = 2;
  options.steps = 80;
  options.batch = 4;
  options.rate = 0.05;
  options.fine_tune_steps = 40;
  return options;
}

LearnRoundingOptions quick_rounding() {
  LearnRoundingOptions options;
  options.block_size = 2;
  options.steps = 120;
  options.batch = 4;
  options.rate = 0.05;
  return options;
}

using Pass = std::function<PassReport(Graph&, const Graph&, const Dataset&)>;
PassReport thresholds(Graph& graph, const Graph& teacher, const Dataset& data) {
  return train_thresholds(graph, teacher, data, quick());
}
PassReport rounding(Graph& graph, const Graph& teacher, const Dataset& data) {
  return learn_rounding(graph, teacher, data, quick_rounding());
}

TEST(TrainThresholds, ErrorFallsOnDataThatNobodySaw) {
  const Small made;
  for (const std::string target : {"esp32p4", "esp32s3"}) {
    const Graph start = made.quantized(target);
    Graph trained = start.clone();
    const PassReport report = thresholds(trained, start, made.calibration);
    EXPECT_TRUE(report.changed()) << target;
    EXPECT_LT(made.error(trained), 0.8 * made.error(start)) << target;
  }
}

TEST(LearnRounding, ErrorFallsOnDataThatNobodySaw) {
  const Small made;
  for (const std::string target : {"esp32p4", "esp32s3"}) {
    const Graph start = made.quantized(target);
    Graph learned = start.clone();
    const PassReport report = rounding(learned, start, made.calibration);
    EXPECT_TRUE(report.changed()) << target;
    EXPECT_LT(made.error(learned), 0.95 * made.error(start)) << target;
  }
}

TEST(LearnRounding, ChoosesOneOfTheTwoStepsAroundAWeight) {
  const Small made;
  const Graph start = made.quantized("esp32s3");
  Graph learned = start.clone();
  ASSERT_TRUE(rounding(learned, start, made.calibration).changed());
  int64_t moved = 0;
  for (const std::string name : {"first", "second", "third"}) {
    const SlotQuant& slot = start.find_operation(name)->input_quant()[1];
    ASSERT_EQ(slot_exponents(learned, learned.find_operation(name)->input_quant()[1]), slot_exponents(start, slot));
    const double step = std::ldexp(1.0, slot_exponents(start, slot)[0]);
    const at::Tensor before = start.find_variable(name + ".weight")->value() / step;
    const at::Tensor after = learned.find_variable(name + ".weight")->value() / step;
    if (at::equal(before, after)) continue;  // a block that was left as it was
    EXPECT_TRUE(at::equal(after, after.round())) << name;
    EXPECT_LE((after - before).abs().max().item<double>(), 1.0) << name;
    moved += after.ne(before.round()).sum().item<int64_t>();
  }
  EXPECT_GT(moved, 0);  // other codes than the nearest ones
}

class Passes : public ::testing::TestWithParam<Pass> {};
INSTANTIATE_TEST_SUITE_P(All, Passes, ::testing::Values(Pass(thresholds), Pass(rounding)));

TEST_P(Passes, GiveTheSameBytesForAnyNumberOfThreads) {
  const Small made(16);
  const Graph start = made.quantized("esp32s3");
  const int before = at::get_num_threads();
  std::vector<Graph> results;
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    results.push_back(start.clone());
    EXPECT_TRUE(GetParam()(results.back(), start, made.calibration).changed());
    EXPECT_EQ(at::get_num_threads(), threads);
  }
  at::set_num_threads(before);
  expect_same_graph(results[0], results[1]);
  expect_same_graph(results[0], results[2]);
}

TEST_P(Passes, AreUndoneWhenTheyDoNotHelp) {
  const Small made(6);
  Graph start = made.quantized("esp32p4");
  for (Operation* operation : start.operations()) operation->clear_quant();
  Graph exact = start.clone();  // quantized to nothing: no error to begin with
  const PassReport report = GetParam()(exact, start, made.calibration);
  EXPECT_FALSE(report.changed());
  expect_same_graph(exact, start);
}

TEST_P(Passes, AWarningSaysWhenASingleSampleDecides) {
  const Small made(1);
  Graph graph = made.quantized("esp32p4");
  const Graph teacher = graph.clone();
  const PassReport report = GetParam()(graph, teacher, made.calibration);
  ASSERT_EQ(report.warnings.size(), 1u);
  EXPECT_THAT(report.warnings[0], HasSubstr("single sample"));
}

TEST(TrainThresholds, RefusesOptionsThatMakeNoSense) {
  const Small made(2);
  const Graph start = made.quantized("esp32p4");
  const auto message = [&](const std::function<void(TrainThresholdsOptions&)>& change) {
    TrainThresholdsOptions options;
    change(options);
    Graph graph = start.clone();
    return test::user_error_of([&] { train_thresholds(graph, start, made.calibration, options); });
  };
  EXPECT_THAT(message([](auto& o) { o.block_size = 0; }), HasSubstr("train_thresholds.block_size: 0 is less than 1"));
  EXPECT_THAT(message([](auto& o) { o.steps = -1; }), HasSubstr("train_thresholds.steps"));
  EXPECT_THAT(message([](auto& o) { o.steps = o.fine_tune_steps = 0; }), HasSubstr("null switches the pass off"));
  EXPECT_THAT(message([](auto& o) { o.batch = 0; }), HasSubstr("train_thresholds.batch"));
  EXPECT_THAT(message([](auto& o) { o.rate = -1; }), HasSubstr("train_thresholds.rate"));
  EXPECT_THAT(message([](auto& o) { o.gradual = 1.5; }), HasSubstr("no share between 0 and 1"));
  LearnRoundingOptions options;
  options.regularization = -1;
  Graph graph = start.clone();
  EXPECT_THAT(test::user_error_of([&] { learn_rounding(graph, start, made.calibration, options); }),
              HasSubstr("learn_rounding.regularization"));
}

/// Shapes that an exporter wrote into the network allow one sample at a time only; two inputs; a branch; a network
/// without weights.
TEST(TrainThresholds, TakesNetworksWhoseSamplesCannotBeJoined) {
  GraphBuilder net;
  Variable* a = net.input("a", {1, 3, 4, 4});
  Variable* b = net.input("b", {1, 3, 4, 4});
  Variable* left = net.op("Relu", "left_relu", {net.conv("left", a, 4)});
  Variable* sum = net.op("Add", "sum", {left, net.conv("right", b, 4)});
  Variable* rows = net.op("Transpose", "turn", {sum}, {{"perm", Shape{1, 0, 2, 3}}});  // samples lie along axis 1
  Variable* flat = net.op("Reshape", "flat", {rows, net.integers({4, 16})});
  net.output(net.op("Gemm", "gemm", {flat, net.random("gemm.weight", {5, 16}), net.random("gemm.bias", {5})},
                    {{"transB", int64_t{1}}}));
  const Dataset data = net.data(8);
  const Graph start = convert(net.graph, data).quantized;
  Graph trained = start.clone();
  train_thresholds(trained, start, data, quick());
  const DividedData parts = hold_out(data);
  EXPECT_LE(Reference(net.graph, parts.held_out).simulated_error(trained),
            Reference(net.graph, parts.held_out).simulated_error(start));

  GraphBuilder weightless;
  weightless.output(weightless.op("Relu", "relu", {weightless.input({1, 3})}));
  Graph nothing = convert(weightless.graph, weightless.data()).quantized;
  EXPECT_FALSE(thresholds(nothing, nothing.clone(), weightless.data()).changed());
}

TEST(TrainThresholds, StandsInTheRecipe) {
  Recipe recipe;
  set_field(recipe, "train_thresholds.steps=7");
  ASSERT_TRUE(recipe.train_thresholds.has_value());
  EXPECT_EQ(recipe.train_thresholds->steps, 7);
  set_field(recipe, "train_thresholds.blocks=depth");
  EXPECT_EQ(recipe.train_thresholds->blocks, BlockCuts::Depth);
  EXPECT_THAT(test::user_error_of([&] { set_field(recipe, "train_thresholds.judge=me"); }), HasSubstr("held_out"));
  const Small made(6);
  recipe.train_thresholds->steps = 30;
  recipe.target = "esp32s3";
  const Conversion conversion = convert(made.network, made.calibration, recipe);
  ASSERT_NE(conversion.report.find("train_thresholds"), nullptr);
  // What the exporter needs is at rest again: biases on the grid of input and weight.
  for (const Operation* operation : conversion.quantized.operations()) {
    if (operation->type() != "Conv") continue;
    const auto& slots = operation->input_quant();
    EXPECT_EQ(slot_exponents(conversion.quantized, slots[2])[0],
              slot_exponents(conversion.quantized, slots[0])[0] + slot_exponents(conversion.quantized, slots[1])[0]);
  }
}

}  // namespace
}  // namespace espq
