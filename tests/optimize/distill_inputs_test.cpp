// Inputs made from what BatchNormalizations remember, on a network whose training data were nothing like drawn numbers.
#include "passes/optimize/distill_inputs.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/data/sample_files.h"
#include "core/exec/executor.h"
#include "passes/optimize/reference.h"
#include "passes/pipeline/convert.h"
#include "tests/support/graph_builder.h"
#include "tests/user_error.h"

namespace espq {
namespace {

using test::GraphBuilder;
using ::testing::HasSubstr;

Variable* normalized(GraphBuilder& net, const std::string& name, Variable* x, int64_t channels) {
  return net.op(
      "BatchNormalization", name,
      {x, net.constant(name + ".gamma", at::linspace(0.5, 1.5, channels)),
       net.constant(name + ".beta", at::linspace(-1, 1, channels)), net.constant(name + ".mean", at::zeros({channels})),
       net.constant(name + ".variance", at::ones({channels}))});
}

/// What its BatchNormalizations hold is what they meet on `seen`.
Graph trained_on(const Dataset& seen) {
  GraphBuilder net;
  Variable* x = net.input({1, 3, 12, 12});
  x = net.op("Relu", "r1", {normalized(net, "n1", net.conv("c1", x, 8), 8)});
  x = net.op("Relu", "r2", {normalized(net, "n2", net.conv("c2", x, 8), 8)});
  net.output(net.conv("c3", x, 4));
  Graph network = std::move(net.graph);
  for (const std::string name : {"n1", "n2"}) {
    const Variable* operand = network.find_operation(name)->input(0);
    std::vector<at::Tensor> rows;
    {
      Executor executor(network, Precision::Float);
      for (size_t i = 0; i < seen.size(); ++i)
        rows.push_back(executor.run(seen.inputs(network, i), {operand})[0].transpose(0, 1).flatten(1));
    }
    const at::Tensor all = at::cat(rows, 1);
    network.find_variable(name + ".mean")->set_value(all.mean(1));
    network.find_variable(name + ".variance")->set_value(all.var(1, /*unbiased=*/false));
  }
  return network;
}

/// Far from mean 0 and deviation 1.
Dataset training_data() {
  at::manual_seed(5);
  std::vector<Dataset::Batch> batches;
  batches.reserve(16);
  for (int i = 0; i < 16; ++i) batches.push_back({{"x", at::randn({1, 3, 12, 12}) * 6 + 10}});
  return Dataset(std::move(batches));
}

Dataset drawn_for(const Graph& network) { return draw_inputs(network, {.batches = 4, .seed = 3}); }

TEST(DistillInputs, ComeToTheStatisticsOfTheNetwork) {
  const Dataset seen = training_data();
  const Graph network = trained_on(seen);
  // By definition: mean and deviation of these very data, up to float32 sums.
  EXPECT_LT(distance_to_statistics(network, seen), 1e-6);
  const Dataset drawn = drawn_for(network);
  const Dataset distilled = distill_inputs(network, drawn, {.steps = 200, .rate = 0.5});
  EXPECT_LT(distance_to_statistics(network, distilled), 0.02 * distance_to_statistics(network, drawn));
  // The network is what it was, and so are the drawn inputs.
  EXPECT_LT(distance_to_statistics(network, seen), 1e-6);
  EXPECT_TRUE(drawn[0].at("x").equal(drawn_for(network)[0].at("x")));
}

/// What counts in the end: noise on the data that the network was trained on.
TEST(DistillInputs, CalibrateAsDataDo) {
  const Dataset seen = training_data();
  const Graph network = trained_on(seen);
  const auto noise = [&](const Dataset& data) {
    Recipe recipe;
    recipe.target = "esp32s3";
    const Graph quantized = convert(network, data, recipe).quantized;
    return Reference(network, seen).simulated_error(quantized);
  };
  const double with_data = noise(seen), drawn = noise(drawn_for(network)),
               distilled = noise(distill_inputs(network, drawn_for(network), {.steps = 200, .rate = 0.5}));
  EXPECT_GT(drawn, 10 * with_data);
  EXPECT_LT(distilled, 2 * with_data);
}

TEST(DistillInputs, AreTheSameForAnyNumberOfThreadsAndStayInTheirRange) {
  const Graph network = trained_on(training_data());
  const Dataset drawn = draw_inputs(network, {.range = std::pair(0.0, 1.0), .batches = 3, .seed = 3});
  const DistillInputsOptions options{.steps = 5, .range = std::pair(0.0, 1.0)};
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const Dataset one = distill_inputs(network, drawn, options);
  at::set_num_threads(2);
  const Dataset two = distill_inputs(network, drawn, options);
  at::set_num_threads(before);
  ASSERT_EQ(one.size(), 3U);
  for (size_t i = 0; i < one.size(); ++i) {
    const at::Tensor& x = one[i].at("x");
    EXPECT_TRUE(x.equal(two[i].at("x")));
    EXPECT_FALSE(x.equal(drawn[i].at("x")));
    EXPECT_GE(x.min().item<float>(), 0);
    EXPECT_LE(x.max().item<float>(), 1);
  }
}

TEST(DistillInputs, RefusesWhatMakesNoSense) {
  const Graph network = trained_on(training_data());
  EXPECT_THAT(test::user_error_of([&] { distill_inputs(network, drawn_for(network), {.steps = 0}); }),
              HasSubstr("distill_inputs.steps"));
  EXPECT_THAT(test::user_error_of([&] { distill_inputs(network, Dataset()); }), HasSubstr("no inputs"));
  GraphBuilder net;
  net.output(net.conv("c", net.input({1, 3, 8, 8}), 4));
  EXPECT_THAT(test::user_error_of([&] { distill_inputs(net.graph, drawn_for(net.graph)); }),
              HasSubstr("no BatchNormalization"));
}

}  // namespace
}  // namespace espq
