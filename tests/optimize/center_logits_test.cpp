#include "passes/optimize/center_logits.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/ops/linear.h"
#include "passes/pipeline/convert.h"
#include "tests/optimize/noise.h"
#include "tests/simplify/same_function.h"
#include "tests/support/graph_builder.h"

namespace espq {
namespace {

using test::expect_same_function;
using test::GraphBuilder;
using test::noise_with;
using test::pictures;
using ::testing::HasSubstr;

/// A layer whose results lie around `middle`, a Flatten and the operator behind them.
Graph head(std::string_view type, double middle) {
  GraphBuilder net;
  Variable* x = net.op("Relu", "r", {net.conv("c", net.input({1, 3, 8, 8}), 6)});
  Variable* logits =
      net.op("Conv", "logits", {x, net.random("weight", {4, 6, 8, 8}), net.constant("bias", at::full({4}, middle))});
  Variable* flat = net.op("Flatten", "flat", {logits}, {{"axis", int64_t{1}}});
  net.output(type == "Softmax" || type == "LogSoftmax" ? net.op(type, "end", {flat}, {{"axis", int64_t{1}}})
                                                       : net.op(type, "end", {flat}));
  infer_shapes(net.graph, zero_inputs(net.graph));
  return std::move(net.graph);
}

TEST(CenterLogits, MovesWhatASoftmaxDoesNotSee) {
  for (const std::string_view type : {"Softmax", "LogSoftmax"}) {
    const Graph before = head(type, -30);
    Graph after = before.clone();
    const PassReport report = center_logits(after, pictures(before, 8, 1), {});
    EXPECT_EQ(report.changes.size(), 1U) << type << " " << to_text(report);
    const double moved = linear_operation(*after.find_operation("logits"))->bias()->mean().item<double>();
    EXPECT_LT(std::abs(moved), 15) << type;
    // Float32 numbers around 30 have 19 bits behind the point, and the exponential multiplies what they lack.
    expect_same_function(before, after, 1e-4);
  }
}

TEST(CenterLogits, LowersTheNoiseOfProbabilities) {
  const Graph network = head("Softmax", -30);
  for (const std::string_view target : {"esp32p4", "esp32s3"}) {
    Recipe recipe;
    recipe.target = target;
    const double plain = noise_with(network, recipe);
    recipe.center_logits.emplace();
    // At least one bit of the logits: a quarter of the noise that their rounding makes, which is most of it.
    EXPECT_LT(noise_with(network, recipe), plain * 0.5) << target;
  }
}

TEST(CenterLogits, LeavesWhatIsInTheMiddleAndWhatOthersSee) {
  for (const auto& [type, middle] : {std::pair{"Softmax", 0.0}, {"Sigmoid", -30.0}, {"Neg", -30.0}}) {
    const Graph before = head(type, middle);
    Graph after = before.clone();
    EXPECT_FALSE(center_logits(after, pictures(before, 8, 1), {}).changed()) << type;
  }
  // The logits are a result, too.
  Graph graph = head("Softmax", -30);
  graph.add_output(*graph.find_operation("flat")->output());
  EXPECT_FALSE(center_logits(graph, pictures(graph, 8, 1), {}).changed());
}

TEST(CenterLogits, RefusesNonsense) {
  EXPECT_THAT(test::refusal_of(head("Softmax", 0), [](Recipe& recipe) { recipe.center_logits.emplace().batches = 0; }),
              HasSubstr("center_logits.batches: 0 is less than 1"));
}

}  // namespace
}  // namespace espq
