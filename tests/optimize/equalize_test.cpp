#include "passes/optimize/equalize.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/analysis/measure.h"
#include "core/graph/edit.h"
#include "passes/optimize/channel_map.h"
#include "passes/pipeline/convert.h"
#include "tests/optimize/noise.h"
#include "tests/simplify/same_function.h"
#include "tests/support/graph_builder.h"
#include "tests/user_error.h"

namespace espq {
namespace {

using test::expect_same_function;
using test::GraphBuilder;
using ::testing::Each;
using ::testing::HasSubstr;

const Target& s3() { return find_target("esp32s3"); }
const Target& p4() { return find_target("esp32p4"); }

/// Factors from 1/8 to 8, neighbours apart.
at::Tensor uneven(int64_t count) { return at::exp2(((at::arange(count) * 5) % 7 - 3).to(at::kFloat)); }

/// Multiplies the rows of `front` and divides the columns of `behind`, which is what equalize() has to undo.
void unbalance(Graph& graph, std::string_view front, std::string_view behind) {
  const auto up = *linear_operation(*graph.find_operation(front));
  const auto down = *linear_operation(*graph.find_operation(behind));
  const at::Tensor factors = uneven(up.rows());
  up.set_weight(graph, up.scaled_rows(factors));
  up.set_bias(graph, *up.bias() * factors);
  down.set_weight(graph, down.scaled_columns(factors.reciprocal()));
}

Variable* depthwise(GraphBuilder& net, std::string_view name, Variable* source, int64_t channels) {
  return net.op("Conv", name,
                {source, net.random(std::string(name) + ".weight", {channels, 1, 3, 3}),
                 net.random(std::string(name) + ".bias", {channels})},
                {{"group", channels}, {"pads", std::vector<int64_t>{1, 1, 1, 1}}});
}

/// Expansion, depthwise, projection: the place where channels of one tensor differ most.
Graph bottleneck(std::string_view activation) {
  GraphBuilder net;
  const auto act = [&](std::string_view name, Variable* value) {
    if (activation == "Clip") return net.op("Clip", name, {value, net.scalar(0), net.scalar(6)});
    return net.op(activation, name, {value});
  };
  Variable* x = act("stem_act", net.conv("stem", net.input({1, 3, 8, 8}), 8));
  x = act("middle_act", depthwise(net, "middle", x, 8));
  x = act("project_act", net.conv("project", x, 8, 1));
  net.output(net.conv("head", x, 4, 1));
  unbalance(net.graph, "stem", "middle");
  unbalance(net.graph, "middle", "project");
  unbalance(net.graph, "project", "head");
  return std::move(net.graph);
}

Dataset normal_batches(const Graph& graph, int64_t count, uint64_t seed) {
  at::manual_seed(seed);
  std::vector<Dataset::Batch> batches;
  for (int64_t i = 0; i < count; ++i)
    batches.push_back({{graph.inputs()[0]->name(), at::randn(*graph.inputs()[0]->shape())}});
  return Dataset(std::move(batches));
}

/// Noise to signal of the quantized network on batches that the recipe did not see.
double noise_of(const Graph& network, const Recipe& recipe) {
  const Conversion made = convert(network, normal_batches(network, 8, 1), recipe);
  return test::noise_on(normal_batches(network, 8, 2), network, made.quantized);
}

TEST(Equalize, KeepsTheFunctionAndEvensTheChannels) {
  for (const std::string_view activation : {"Relu", "LeakyRelu"}) {
    const Graph before = bottleneck(activation);
    for (const Target* target : {&s3(), &p4()}) {
      Graph after = before.clone();
      const PassReport report = equalize(after, normal_batches(before, 4, 1), *target);
      EXPECT_EQ(report.times("layer scaled"), 4) << activation << " " << to_text(report);
      expect_same_function(before, after);
    }
  }
}

TEST(Equalize, LowersTheNoiseOfUnevenChannels) {
  for (const std::string_view activation : {"Relu", "Clip"})
    for (const std::string_view target : {"esp32s3", "esp32p4"}) {
      const Graph network = bottleneck(activation);
      Recipe recipe;
      recipe.target = target;
      const double plain = noise_of(network, recipe);
      recipe.equalize.emplace();
      const double equalized = noise_of(network, recipe);
      // 8 channels over a range of 1:64 lose up to six bits; most of that comes back where nothing is clipped.
      EXPECT_LT(equalized, plain * (activation == "Relu" ? 0.25 : 0.9)) << activation << " on " << target;
    }
}

TEST(Equalize, WithRowsAChipWithAnExponentPerRowIsLikeOneWithout) {
  const Graph before = bottleneck("Relu");
  const auto first_weight = [&](const Target& target, bool rows) {
    Graph after = before.clone();
    EqualizeOptions options;
    options.rows = rows;
    equalize(after, normal_batches(before, 4, 1), target, options);
    return after.find_operation("stem")->input(1)->value();
  };
  EXPECT_TRUE(first_weight(p4(), true).equal(first_weight(s3(), false)));
  EXPECT_FALSE(first_weight(p4(), false).equal(first_weight(s3(), false)));
}

TEST(Equalize, StrengthIsThePowerOfTheFactors) {
  const Graph before = bottleneck("Relu");
  const auto size = [&](double strength) {
    Graph after = before.clone();
    EqualizeOptions options;
    options.strength = strength;
    equalize(after, normal_batches(before, 4, 1), s3(), options);
    return after.find_operation("stem")->input(1)->value().flatten(1).norm(2, 1).to(at::kDouble).log();
  };
  const at::Tensor whole = size(1) - size(0), half = size(0.5) - size(0);
  EXPECT_GT(whole.abs().max().item<double>(), 0.5);
  // Weights are rounded to float32.
  EXPECT_LT((half * 2 - whole).abs().max().item<double>(), 1e-5);
}

TEST(Equalize, NormalizationsTakeTheFactorsOfTheLayersBehindThem) {
  for (const std::string_view type : {"LayerNormalization", "RMSNormalization"}) {
    GraphBuilder net;
    const at::Tensor sizes = at::exp2(at::arange(16).remainder(7).to(at::kFloat));  // 1:64
    std::vector<Variable*> inputs{net.input({1, 12, 16}), net.constant("gain", sizes)};
    if (type == "LayerNormalization") inputs.push_back(net.constant("offset", at::linspace(-1, 1, 16) * sizes));
    Variable* x = net.op(type, "norm", inputs);
    at::manual_seed(3);
    net.output(net.op("MatMul", "head", {x, net.constant("weight", at::randn({16, 8}) / sizes.unsqueeze(1))}));
    const Graph before = std::move(net.graph);
    for (const std::string_view target : {"esp32s3", "esp32p4"}) {
      Graph after = before.clone();
      infer_shapes(after, zero_inputs(after));
      const PassReport report = equalize(after, normal_batches(before, 4, 1), find_target(target));
      EXPECT_EQ(report.times("normalization scaled"), 1) << type << " " << to_text(report);
      expect_same_function(before, after);
      Recipe recipe;
      recipe.target = target;
      const double plain = noise_of(before, recipe);
      recipe.equalize.emplace();
      // Channels over a range of 1:64 lose up to six bits.
      EXPECT_LT(noise_of(before, recipe), plain * 0.25) << type << " on " << target;
    }
  }
}

TEST(Equalize, FactorsGoThroughResidualsJoinsAndMoves) {
  GraphBuilder net;
  Variable* x = net.op("Relu", "r1", {net.conv("c1", net.input({1, 3, 8, 8}), 4)});
  Variable* y = net.op("Add", "sum", {x, net.op("Relu", "r2", {net.conv("c2", x, 4)})});
  Variable* pooled = net.op("MaxPool", "pool", {y},
                            {{"kernel_shape", std::vector<int64_t>{2, 2}}, {"strides", std::vector<int64_t>{2, 2}}});
  Variable* z = net.op("Concat", "join", {pooled, net.conv("c3", pooled, 2)}, {{"axis", int64_t{1}}});
  Variable* turned = net.op("Transpose", "turn", {z}, {{"perm", std::vector<int64_t>{0, 2, 3, 1}}});
  Variable* back = net.op("Transpose", "back", {turned}, {{"perm", std::vector<int64_t>{0, 3, 1, 2}}});
  net.output(net.conv("c4", back, 3));
  const Graph before = std::move(net.graph);
  const ChannelMap map = map_channels(before);
  // c1 and c2 share the four channels of the sum; c3 has two of its own; c4 is a result of the network.
  EXPECT_EQ(map.classes, 6);
  EXPECT_EQ(map.layers[0].rows, map.layers[1].rows);
  EXPECT_EQ(map.layers[3].columns, (std::vector<int>{0, 1, 2, 3, 4, 5}));
  EXPECT_THAT(map.layers[3].rows, Each(ChannelMap::kNone));
  Graph after = before.clone();
  EXPECT_TRUE(equalize(after, normal_batches(before, 4, 1), s3()).changed());
  expect_same_function(before, after);
}

TEST(Equalize, FactorsGoThroughFlattenIntoEveryColumnOfAChannel) {
  GraphBuilder net;
  Variable* x = net.op("Relu", "r", {net.conv("c", net.input({1, 3, 4, 4}), 4)});
  Variable* flat = net.op("Flatten", "flat", {x}, {{"axis", int64_t{1}}});
  net.output(net.op("Gemm", "g", {flat, net.random("w", {5, 64}), net.random("b", {5})}, {{"transB", int64_t{1}}}));
  const Graph before = std::move(net.graph);
  const ChannelMap map = map_channels(before);
  EXPECT_EQ(map.classes, 4);
  EXPECT_EQ(map.layers[1].columns[15], 0);
  EXPECT_EQ(map.layers[1].columns[16], 1);
  Graph after = before.clone();
  equalize(after, normal_batches(before, 4, 1), s3());
  expect_same_function(before, after);
}

TEST(Equalize, LeavesWhatReachesAResultOrAFunctionThatIsNotHomogeneous) {
  GraphBuilder net;
  Variable* a = net.conv("a", net.input({1, 3, 8, 8}), 4);
  Variable* b = net.conv("b", net.op("Sigmoid", "s", {a}), 4);
  Variable* c = net.op("Relu", "r", {b});
  net.outputs({net.conv("d", c, 4), c});
  const ChannelMap map = map_channels(net.graph);
  EXPECT_EQ(map.classes, 0);
  EXPECT_FALSE(equalize(net.graph, normal_batches(net.graph, 2, 1), s3()).changed());
}

TEST(Equalize, ChannelsThatReachTheBoundOfAClipKeepTheirSize) {
  GraphBuilder net;
  Variable* x = net.input({1, 1, 4, 4});
  // Channel 0 exceeds 6 often, channel 1 stays far below.
  Variable* conv = net.op("Conv", "c", {x, net.constant(at::tensor({10.0F, 0.05F}).reshape({2, 1, 1, 1}))});
  Variable* clip = net.op("Clip", "clip", {conv, net.scalar(0), net.scalar(6)});
  net.output(net.conv("d", clip, 3, 1));
  const Graph before = std::move(net.graph);
  Graph after = before.clone();
  EqualizeOptions options;
  options.clip_to_grid = false;
  EXPECT_TRUE(equalize(after, normal_batches(before, 8, 1), p4(), options).changed());
  const at::Tensor weight = linear_operation(*after.find_operation("c"))->weight().flatten();
  EXPECT_EQ(weight[0].item<float>(), 10.0F);
  EXPECT_GT(weight[1].item<float>(), 0.1F);
  expect_same_function(before, after);
}

TEST(Equalize, MovesTheBoundOfAClipToTheEndOfItsGridWhereItCostsNothing) {
  Recipe recipe;
  recipe.equalize.emplace();
  const Graph network = bottleneck("Clip");
  const Conversion made = convert(network, normal_batches(network, 8, 1), recipe);
  EXPECT_THAT(test::types(made.quantized), ::testing::Contains("Clip"));
  EXPECT_THAT(test::types(made.chip), Each(::testing::StrEq("Conv")));
}

TEST(Equalize, DeadChannelsStayAsTheyAre) {
  Graph graph = bottleneck("Relu");
  const auto stem = *linear_operation(*graph.find_operation("stem"));
  const at::Tensor alive = at::ones({8});
  alive[3] = 0;
  stem.set_weight(graph, stem.scaled_rows(alive));
  stem.set_bias(graph, *stem.bias() * alive);
  const Graph before = graph.clone();
  equalize(graph, normal_batches(graph, 4, 1), s3());
  for (const Variable* variable : graph.variables()) {
    const bool finite = !variable->is_parameter() || variable->value().isfinite().all().item<bool>();
    EXPECT_TRUE(finite) << variable->name();
  }
  expect_same_function(before, graph);
}

TEST(Equalize, RefusesNonsense) {
  const Graph network = bottleneck("Relu");
  const Dataset data = normal_batches(network, 2, 1);
  const auto with = [&](auto change) {
    return test::user_error_of([&, change] {
      EqualizeOptions options;
      change(options);
      Graph graph = network.clone();
      equalize(graph, data, s3(), options);
    });
  };
  EXPECT_THAT(with([](EqualizeOptions& o) { o.iterations = 0; }), HasSubstr("equalize.iterations: 0 is less than 1"));
  EXPECT_THAT(with([](EqualizeOptions& o) { o.batches = 0; }), HasSubstr("equalize.batches: 0 is less than 1"));
  EXPECT_THAT(with([](EqualizeOptions& o) { o.clip_share = 1.5; }), HasSubstr("equalize.clip_share: 1.5 is no share"));
  EXPECT_THAT(with([](EqualizeOptions& o) { o.largest_factor = 0.5; }),
              HasSubstr("equalize.largest_factor: 0.5 is less than 1"));
}

}  // namespace
}  // namespace espq
