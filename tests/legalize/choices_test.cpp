// Rewrites of what no chip runs at any width: choices by condition, normalizations of groups, masks of attention.
#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <limits>

#include "core/exec/executor.h"
#include "core/ops/operator.h"
#include "core/support/error.h"
#include "passes/legalize/bound_masks.h"
#include "passes/legalize/decompose_group_normalization.h"
#include "passes/legalize/rewrite_choices.h"
#include "passes/simplify/remove_dead_code.h"
#include "tests/support/graph_builder.h"

namespace espq::test {
namespace {

using testing::ElementsAre;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

Tensors run(const Graph& graph, const Dataset& data) {
  return Executor(graph, Precision::Float).run(data.inputs(graph, 0));
}

/// Largest difference of the outputs before and after the passes, divided by the largest value.
template <typename Pass>
double difference_by(GraphBuilder& net, Pass&& pass) {
  const Dataset data = net.data(1);
  const Tensors before = run(net.graph, data);
  const PassReport report = pass(net.graph);
  EXPECT_TRUE(report.changed()) << to_text(report);
  remove_dead_code(net.graph);
  verify(net.graph);
  const Tensors after = run(net.graph, data);
  double largest = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(before[i].sizes(), after[i].sizes());
    EXPECT_EQ(before[i].scalar_type(), after[i].scalar_type());
    largest = std::max(largest, ((before[i] - after[i]).abs().max() / before[i].abs().max()).item<double>());
  }
  return largest;
}

double difference_by_choices(GraphBuilder& net) {
  return difference_by(net, [](Graph& graph) { return rewrite_choices(graph); });
}

// ------------------------------------------------------------------------------------------------ one tensor
TEST(RewriteChoices, AFunctionOfOneTensorBecomesOneOperation) {
  GraphBuilder net;
  Variable* x = net.op("Relu", "relu", {net.input({1, 4, 5, 6})});
  Variable* above = net.op("Greater", "above", {x, net.scalar(0.3)});
  net.outputs({net.op("Where", "where", {above, x, net.op("Mul", "small", {x, net.scalar(0.1)})})});
  EXPECT_EQ(difference_by_choices(net), 0);
  EXPECT_THAT(types(net.graph), ElementsAre("Relu", "ScalarFunction"));
  EXPECT_EQ(net.graph.outputs()[0]->producer()->name(), "where");
}

TEST(RewriteChoices, TakesLogicAndCastsAlong) {
  GraphBuilder net;
  Variable* x = net.input({2, 3, 7});
  Variable* inside = net.op("And", "inside",
                            {net.op("GreaterOrEqual", "low", {x, net.scalar(-0.25)}),
                             net.op("Not", "high", {net.op("Less", "less", {net.scalar(0.5), x})})});
  Variable* number = net.op("Cast", "number", {inside}, {{"to", int64_t{1}}});
  net.outputs({net.op("Max", "max", {number, net.op("Sigmoid", "gate", {x})})});
  EXPECT_EQ(difference_by_choices(net), 0);
  EXPECT_THAT(types(net.graph), ElementsAre("ScalarFunction"));
}

TEST(RewriteChoices, StopsAtWhatOthersRead) {
  GraphBuilder net;
  Variable* x = net.input({2, 5});
  Variable* y = net.op("Abs", "abs", {x});
  net.outputs({net.op("Where", "where", {net.op("Greater", "above", {y, net.scalar(0.5)}), y, net.scalar(-1)}), y});
  EXPECT_EQ(difference_by_choices(net), 0);
  EXPECT_THAT(types(net.graph), ElementsAre("Abs", "ScalarFunction"));
}

TEST(RewriteChoices, LeavesWhatIsNoFunctionOfSingleElements) {
  for (const bool other_shape : {true, false}) {
    GraphBuilder net;
    Variable* x = net.input({2, 5});
    Variable* y = other_shape ? net.input("y", {1, 5}) : net.op("Softmax", "softmax", {x}, {{"axis", int64_t{1}}});
    net.outputs({net.op("Max", "max", {x, y})});
    EXPECT_FALSE(rewrite_choices(net.graph).changed());
  }
}

TEST(RewriteChoices, InfinityHasNoPlaceInATable) {
  GraphBuilder net;
  Variable* x = net.input({2, 5});
  net.outputs(
      {net.op("Where", "where", {net.op("Greater", "above", {x, net.scalar(0.5)}), x, net.scalar(-kInfinity)})});
  EXPECT_FALSE(rewrite_choices(net.graph).changed());
}

/// The steps of a program are checked where they are read.
TEST(ScalarFunction, RefusesStepsThatAreNone) {
  for (const std::string step : {"Sine x", "Add x", "Add x #0", "Add x 1 2", "Add x one", "Add x #-1"}) {
    GraphBuilder net;
    const std::vector<std::string> steps{step};
    EXPECT_THROW(net.op("ScalarFunction", "f", {net.input({2, 2})}, {{"steps", steps}}), UserError) << step;
  }
}

// ------------------------------------------------------------------------------------------------ conditions
TEST(RewriteChoices, AConstantConditionIsAFactor) {
  const at::Tensor condition = at::rand({1, 4, 6}).gt(0.4);
  for (const bool constant : {true, false}) {
    GraphBuilder net;
    Variable* x = net.input({2, 4, 6});
    Variable* y = constant ? net.random({6}) : net.input("y", {2, 1, 6});
    net.outputs({net.op("Where", "where", {net.constant(condition), x, y})});
    EXPECT_EQ(difference_by_choices(net), 0) << constant;
    const std::vector<std::string> one{"Mul", "Add"}, two{"Mul", "Mul", "Add"};
    EXPECT_EQ(types(net.graph), constant ? one : two);
  }
}

TEST(RewriteChoices, AConditionThatAlwaysHoldsGoes) {
  GraphBuilder net;
  Variable* x = net.op("Relu", "relu", {net.input({2, 4})});
  Variable* where = net.op("Where", "where", {net.constant(at::ones({2, 4}, at::kBool)), x, net.scalar(3)});
  net.outputs({net.op("Exp", "exp", {where})});
  EXPECT_EQ(difference_by_choices(net), 0);
  EXPECT_THAT(types(net.graph), ElementsAre("Relu", "Exp"));
}

TEST(RewriteChoices, OneConditionForAllGoes) {
  GraphBuilder net;
  Variable* x = net.input({2, 3});
  Variable* never = net.constant(at::zeros({1, 1}, at::kBool));
  net.outputs({net.op("Where", "where", {never, x, net.op("Abs", "abs", {x})})});
  EXPECT_EQ(difference_by_choices(net), 0);
  EXPECT_THAT(types(net.graph), testing::Not(testing::Contains("ScalarFunction")));
}

TEST(RewriteChoices, MaxAndMinOf16BitsAreReadFromNoTable) {
  GraphBuilder net;
  Variable* x = net.input({2, 5});
  net.outputs({net.op("Max", "max", {net.op("Sigmoid", "gate", {x}), x})});
  EXPECT_FALSE(rewrite_choices(net.graph, nullptr, 16).changed());
  EXPECT_TRUE(rewrite_choices(net.graph, nullptr, 8).changed());
}

TEST(RewriteChoices, ConditionsOfSeveralTensorsAreZerosAndOnes) {
  const char* logic[] = {"And", "Or", "Xor"};
  for (const char* type : logic) {
    GraphBuilder net;
    Variable *a = net.input("a", {2, 3, 5}), *b = net.input("b", {2, 3, 5}), *c = net.input("c", {2, 3, 5});
    Variable* both =
        net.op(type, "both", {net.op("Greater", "first", {a, b}), net.op("Less", "second", {c, net.scalar(0.2)})});
    net.outputs({net.op("Where", "where", {both, a, c})});
    EXPECT_EQ(difference_by_choices(net), 0) << type;
    for (const std::string& left : types(net.graph))
      EXPECT_THAT(left, testing::AnyOf("Sub", "ScalarFunction", "Mul", "Add", "Clip", "Abs"));
  }
}

// ------------------------------------------------------------------------------------------------ groups
TEST(DecomposeGroupNormalization, ComputesTheSame) {
  const auto normalize = [](Graph& graph) { return decompose_group_normalization(graph); };
  for (const Shape& shape : {Shape{2, 6, 5, 4}, Shape{1, 6, 7}, Shape{3, 6}, Shape{1, 6, 2, 3, 2}})
    for (const int64_t numbers : {6, 3}) {
      GraphBuilder net;
      net.outputs(
          {net.op("GroupNormalization", "norm", {net.input(shape), net.random({numbers}), net.random({numbers})},
                  {{"num_groups", int64_t{3}}})});
      EXPECT_LE(difference_by(net, normalize), 3e-6) << shape.size();
      for (const std::string& type : types(net.graph))
        EXPECT_THAT(type, testing::AnyOf("Reshape", "LayerNormalization", "Conv", "Mul", "Add"));
    }
  GraphBuilder net;
  net.outputs({net.op("InstanceNormalization", "norm",
                      {net.input({1, 4, 5, 3}), net.constant(at::ones({4})), net.constant(at::zeros({4}))})});
  EXPECT_LE(difference_by(net, normalize), 3e-6);
  EXPECT_THAT(types(net.graph), ElementsAre("Reshape", "LayerNormalization", "Reshape"));
}

// ------------------------------------------------------------------------------------------------ masks
struct Attention {
  GraphBuilder net;
  explicit Attention(const at::Tensor& mask, Width width, bool reshaped = false) {
    Variable* scores = net.op("Mul", "scores", {net.input({1, 2, 6, 6}), net.scalar(3)});
    Variable* masked = net.op("Add", "masked", {scores, net.constant("mask", mask)});
    if (reshaped) masked = net.op("Reshape", "flat", {masked, net.integers({2, 6, 6})});
    net.outputs({net.op("Softmax", "softmax", {masked}, {{"axis", int64_t{-1}}})});
    net.operation("softmax").set_width(width);
  }
};

at::Tensor causal(float left_out) {
  return at::zeros({6, 6}).masked_fill(at::ones({6, 6}, at::kBool).triu(1), left_out);
}

TEST(BoundMasks, LeavesOutAsMuchAsTheGridShows) {
  const std::pair<Width, double> steps[] = {{Width::Int8, 1.0 / 256}, {Width::Int16, 1.0 / 65536}};
  for (const auto& [width, step] : steps)
    for (const float left_out : {-kInfinity, -1e9F})
      for (const bool reshaped : {false, true}) {
        Attention attention(causal(left_out), width, reshaped);
        const Dataset data = attention.net.data(3);
        std::vector<Tensors> before, after;
        for (size_t i = 0; i < data.size(); ++i)
          before.push_back(Executor(attention.net.graph, Precision::Float).run(data.inputs(attention.net.graph, i)));
        EXPECT_TRUE(bound_masks(attention.net.graph, data).changed());
        double error = 0;
        for (size_t i = 0; i < data.size(); ++i) {
          after.push_back(Executor(attention.net.graph, Precision::Float).run(data.inputs(attention.net.graph, i)));
          error = std::max(error, (before[i][0] - after[i][0]).abs().max().item<double>());
        }
        EXPECT_LE(error, step / 4);
        EXPECT_GT(error, 0);  // no lower than is needed
        EXPECT_GT(attention.net.operation("masked").input(1)->value().min().item<double>(), -60);
      }
}

TEST(BoundMasks, LeavesPositionsAndRowsWithoutAnyElement) {
  Attention positions(at::randn({6, 6}), Width::Int8);
  EXPECT_FALSE(bound_masks(positions.net.graph, positions.net.data(1)).changed());
  Attention empty(at::full({6, 6}, -kInfinity), Width::Int8);
  EXPECT_FALSE(bound_masks(empty.net.graph, empty.net.data(1)).changed());
}

}  // namespace
}  // namespace espq::test
