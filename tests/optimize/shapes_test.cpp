// A network of MobileNetV2's shape through the recipes that espq brings along, whole and broken.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/ops/linear.h"
#include "passes/pipeline/convert.h"
#include "tests/optimize/noise.h"
#include "tests/support/graph_builder.h"
#include "tests/support/same_graph.h"

namespace espq {
namespace {

using test::GraphBuilder;

/// Weights of the size that keeps the size of what passes.
Variable* conv(GraphBuilder& net, const std::string& name, Variable* source, int64_t channels, int64_t kernel = 1,
               int64_t stride = 1, int64_t group = 1) {
  const int64_t inputs = (*source->shape())[1] / group;
  const double deviation = std::sqrt(2.0 / static_cast<double>(inputs * kernel * kernel));
  return net.op("Conv", name,
                {source, net.random(name + ".weight", {channels, inputs, kernel, kernel}, deviation),
                 net.random(name + ".bias", {channels}, 0.1)},
                {{"group", group},
                 {"strides", std::vector<int64_t>{stride, stride}},
                 {"pads", std::vector<int64_t>(4, kernel / 2)}});
}

/// Stem, inverted residuals and classifier.
struct MobileNetV2 {
  GraphBuilder net;
  std::vector<std::pair<std::string, std::string>> through_relu;  ///< layers with nothing but a Relu between them

  explicit MobileNetV2(std::string_view activation) {
    const auto active = [&](Variable* value) {
      const std::string name = value->producer()->name() + ".act";
      if (activation == "Clip") return net.op("Clip", name, {value, net.scalar(0), net.scalar(6)});
      return net.op(activation, name, {value});
    };
    Variable* x = active(conv(net, "stem", net.input({1, 3, 16, 16}), 8, 3));
    std::string before = "stem";
    int number = 0;
    for (const auto& [channels, stride] :
         std::vector<std::pair<int64_t, int64_t>>{{8, 1}, {12, 2}, {12, 1}, {16, 2}, {16, 1}}) {
      const std::string name = "block" + std::to_string(number++);
      const int64_t inputs = (*x->shape())[1], inner = number == 1 ? inputs : inputs * 6;
      Variable* y = x;
      if (number > 1) {
        before = name + ".expand";
        y = active(conv(net, before, x, inner));
      }
      y = active(conv(net, name + ".depthwise", y, inner, 3, stride, inner));
      y = conv(net, name + ".project", y, channels);
      through_relu.emplace_back(before, name + ".depthwise");
      through_relu.emplace_back(name + ".depthwise", name + ".project");
      x = stride == 1 && number > 1 ? net.op("Add", name + ".sum", {x, y}) : y;
    }
    x = net.op("GlobalAveragePool", "pool", {active(conv(net, "last", x, 48))});
    x = net.op("Flatten", "flat", {x});
    net.output(
        net.op("Gemm", "classes", {x, net.random("w", {10, 48}), net.random("b", {10})}, {{"transB", int64_t{1}}}));
  }

  /// Sizes of channels that spread over 1:100; the function stays.
  Graph broken() const {
    Graph graph = net.graph.clone();
    at::manual_seed(3);
    for (const auto& [front, behind] : through_relu) {
      const auto up = *linear_operation(*graph.find_operation(front));
      const auto down = *linear_operation(*graph.find_operation(behind));
      const at::Tensor factors = at::exp((at::rand({up.rows()}) * 2 - 1) * std::log(10.0));
      up.set_weight(graph, up.scaled_rows(factors));
      up.set_bias(graph, *up.bias() * factors);
      down.set_weight(graph, down.scaled_columns(factors.reciprocal()));
    }
    return graph;
  }
};

/// Short, where a recipe trains.
Recipe shipped(const std::string& name, std::string_view target) {
  Recipe recipe = find_recipe(name);
  recipe.target = target;
  if (recipe.train_thresholds) recipe.train_thresholds->steps = recipe.train_thresholds->fine_tune_steps = 20;
  if (recipe.learn_rounding) recipe.learn_rounding->steps = 20;
  return recipe;
}

/// On pictures that nobody saw; enough others to train with.
double noise_left(const Graph& network, const std::string& recipe, std::string_view target) {
  return test::noise_of(network, convert(network, test::pictures(network, 16, 1), shipped(recipe, target)).quantized);
}

TEST(Shapes, MobileNetV2WhoseChannelsSpreadOver1To100Recovers) {
  const MobileNetV2 network("Relu");
  const Graph broken = network.broken();
  for (const std::string_view target : {"esp32p4", "esp32s3"}) {
    const double whole = noise_left(network.net.graph, "esp-ppq-1.3.12", target);
    const double plain = noise_left(broken, "esp-ppq-1.3.12", target);
    EXPECT_GT(plain, whole * 4) << target;  // else there is nothing to recover from
    for (const char* recipe : {"fast", "accurate"}) {
      const double left = noise_left(broken, recipe, target);
      EXPECT_LT(left, plain / 4) << recipe << " on " << target;
      EXPECT_LT(left, whole * 1.5) << recipe << " on " << target;
    }
  }
}

TEST(Shapes, MobileNetV2WithRelu6GainsByTheRecipes) {
  const MobileNetV2 network("Clip");
  for (const std::string_view target : {"esp32p4", "esp32s3"}) {
    const double plain = noise_left(network.net.graph, "esp-ppq-1.3.12", target);
    for (const char* recipe : {"fast", "accurate"})
      EXPECT_LT(noise_left(network.net.graph, recipe, target), plain / 4) << recipe << " on " << target;
  }
}

TEST(Shapes, RecipesGiveTheSameForAnyNumberOfThreads) {
  const MobileNetV2 network("Clip");
  const Graph broken = network.broken();
  const Dataset data = test::pictures(broken, 16, 1);
  const int before = at::get_num_threads();
  for (const char* recipe : {"default", "fast", "accurate"}) {
    std::vector<Graph> results;
    for (const int threads : {1, 3}) {
      at::set_num_threads(threads);
      results.push_back(convert(broken, data, shipped(recipe, "esp32s3")).quantized);
      EXPECT_EQ(at::get_num_threads(), threads);
    }
    const testing::ScopedTrace trace(__FILE__, __LINE__, recipe);
    test::expect_same_graph(results[0], results[1]);
  }
  at::set_num_threads(before);
}

}  // namespace
}  // namespace espq
