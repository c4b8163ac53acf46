#include "passes/optimize/search_exponents.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/ops/operator.h"
#include "passes/pipeline/convert.h"
#include "tests/optimize/noise.h"
#include "tests/support/graph_builder.h"
#include "tests/user_error.h"

namespace espq {
namespace {

using test::GraphBuilder;
using test::noise_of;
using test::pictures;
using ::testing::HasSubstr;

/// One channel is a thousand times the others, and nobody reads it: a calibration makes room for it.
Graph network_with_a_channel_for_nothing() {
  GraphBuilder net;
  at::Tensor weight = at::linspace(-0.4, 0.5, 162).reshape({6, 3, 3, 3}).to(at::kFloat),
             behind = at::ones({4, 6, 1, 1});
  weight[1] = 40;
  behind.select(1, 1).zero_();
  Variable* x = net.op("Conv", "c1", {net.input({1, 3, 8, 8}), net.constant("c1.weight", weight)});
  net.output(net.op("Conv", "c2", {net.op("Relu", "r", {x}), net.constant("c2.weight", behind * 0.1)}));
  return std::move(net.graph);
}

int exponent_of(const Graph& graph, std::string_view operation) {
  return slot_exponents(graph, graph.find_operation(std::string(operation))->output_quant()[0]).at(0);
}

TEST(SearchExponents, LetsAChannelSaturateThatNobodyReads) {
  const Graph network = network_with_a_channel_for_nothing();
  Recipe recipe;
  recipe.calibration.observer = Observer::MinMax;
  const Dataset data = pictures(network, 8, 1);
  const Conversion plain = convert(network, data, recipe);
  recipe.search_exponents.emplace();
  const Conversion searched = convert(network, data, recipe);
  EXPECT_LT(exponent_of(searched.quantized, "r"), exponent_of(plain.quantized, "r") - 2);
  EXPECT_LT(noise_of(network, searched.quantized), noise_of(network, plain.quantized) * 0.1);
}

TEST(SearchExponents, LeavesWhatIsBest) {
  GraphBuilder net;
  net.output(net.op("Relu", "r", {net.conv("c", net.input({1, 3, 8, 8}), 4)}));
  const Graph network = std::move(net.graph);
  const Dataset data = pictures(network, 8, 1);
  Graph quantized = convert(network, data).quantized;
  const Graph teacher = quantized.clone();
  const PassReport report = search_exponents(quantized, teacher, data, {.gain = 0.5});
  EXPECT_FALSE(report.changed()) << to_text(report);
  EXPECT_EQ(to_text(quantized), to_text(teacher));
}

TEST(SearchExponents, RefusesNonsense) {
  const Graph network = network_with_a_channel_for_nothing();
  const auto with = [&](auto change) {
    return test::refusal_of(network, [&](Recipe& recipe) { change(recipe.search_exponents.emplace()); });
  };
  EXPECT_THAT(with([](auto& options) { options.batches = 0; }),
              HasSubstr("search_exponents.batches: 0 is less than 1"));
  EXPECT_THAT(with([](auto& options) { options.gain = -1; }), HasSubstr("search_exponents.gain: -1 is no share"));
}

}  // namespace
}  // namespace espq
