#include <gmock/gmock.h>

#include "parity/format.h"
#include "passes/simplify/fold_batch_normalization.h"
#include "passes/simplify/fold_constants.h"
#include "passes/simplify/fold_gemm_factors.h"
#include "passes/simplify/fold_offset.h"
#include "passes/simplify/fold_padding.h"
#include "passes/simplify/fold_scale.h"
#include "passes/simplify/fold_transpose_into_gemm.h"
#include "passes/simplify/matmul_to_gemm.h"
#include "passes/simplify/remove_dead_code.h"
#include "tests/simplify/same_function.h"
#include "tests/support/graph_builder.h"

namespace espq {
namespace {

using namespace test;
using testing::ElementsAre;

Variable* batch_normalization(GraphBuilder& net, Variable* x, int64_t channels) {
  return net.op("BatchNormalization", "bn",
                {x, net.random({channels}), net.random({channels}), net.random({channels}),
                 net.constant(at::rand({channels}) + 0.2)},
                {{"epsilon", 1e-3F}});
}

// ------------------------------------------------------------------------------------------------ constants
TEST(FoldConstants, ShapeChainsBecomeConstants) {
  GraphBuilder net;
  Variable* x = net.input({2, 3, 4, 5});
  Variable* shape = net.op("Shape", {x});
  Variable* batch = net.op("Gather", {shape, net.integers({0})}, {{"axis", int64_t{0}}});
  Variable* target = net.op("Concat", {batch, net.integers({-1})}, {{"axis", int64_t{0}}});
  net.output(net.op("Reshape", {x, target}));
  const Graph before = net.graph.clone();
  fold_constants(net.graph);
  remove_dead_code(net.graph);
  EXPECT_THAT(types(net.graph), ElementsAre("Reshape"));
  EXPECT_TRUE(at::equal(target->value(), at::tensor({2, -1}, at::kLong)));
  expect_same_function(before, net.graph, 0);
}

TEST(FoldConstants, ShapesThatDependOnDataStay) {
  GraphBuilder net;
  Variable* x = net.input({6});
  Variable* count = net.input("count", {1}, at::kLong);
  Variable* part = net.op("Slice", {x, net.integers({0}), count});
  net.output(net.op("Shape", {part}));
  net.output(net.op("Add", {net.op("Shape", {part}), net.integers({1})}));
  EXPECT_FALSE(fold_constants(net.graph).changed());
}

TEST(FoldConstants, LargeResultsAndGraphOutputsStay) {
  GraphBuilder net;
  net.output(net.op("Add", {net.input({4, 4}), net.op("Expand", {net.scalar(1), net.integers({4, 4})})}));
  net.output(net.op("Neg", {net.scalar(1)}));
  EXPECT_FALSE(fold_constants(net.graph, {.max_elements = 15}).changed());
  EXPECT_EQ(fold_constants(net.graph, {.max_elements = 16}).total(), 1);
  EXPECT_THAT(types(net.graph), testing::UnorderedElementsAre("Add", "Neg"));
}

// ------------------------------------------------------------------------------------------------ BatchNormalization
struct Case {
  std::string type;
  std::function<Variable*(GraphBuilder&)> make;
  int64_t channels;
};

std::vector<Case> linear_cases() {
  return {
      {"Conv",
       [](GraphBuilder& net) {
         return net.conv("linear", net.input({2, 4, 5, 5}), 6);
       },
       6},
      {"Conv",
       [](GraphBuilder& net) {
         return net.op("Conv", "linear", {net.input({2, 4, 9}), net.random({6, 2, 3})}, {{"group", int64_t{2}}});
       },
       6},
      {"ConvTranspose",
       [](GraphBuilder& net) {
         return net.op("ConvTranspose", "linear", {net.input({2, 4, 5, 5}), net.random({4, 3, 3, 3}), net.random({6})},
                       {{"group", int64_t{2}}, {"strides", Shape{2, 2}}});
       },
       6},
      {"Gemm",
       [](GraphBuilder& net) {
         return net.op("Gemm", "linear", {net.input({3, 5}), net.random({5, 6})});
       },
       6},
      {"Gemm",
       [](GraphBuilder& net) {
         return net.op("Gemm", "linear", {net.input({3, 5}), net.random({6, 5}), net.random({6})},
                       {{"transB", int64_t{1}}});
       },
       6},
  };
}

TEST(FoldBatchNormalization, GoesIntoEveryLinearOperation) {
  for (const Case& linear : linear_cases()) {
    GraphBuilder net;
    net.output(batch_normalization(net, linear.make(net), linear.channels));
    const Graph before = net.graph.clone();
    EXPECT_TRUE(fold_batch_normalization(net.graph, {.replace_isolated = false}).changed());
    remove_dead_code(net.graph);
    EXPECT_THAT(types(net.graph), ElementsAre(linear.type));
    EXPECT_EQ(net.graph.operations()[0]->name(), "linear");
    expect_same_function(before, net.graph);
  }
}

TEST(FoldBatchNormalization, SharedWeightsStayForTheOtherReader) {
  GraphBuilder net;
  Variable* x = net.input({1, 4, 5, 5});
  Variable* weight = net.random("w", {4, 4, 1, 1});
  net.output(batch_normalization(net, net.op("Conv", {x, weight}), 4));
  net.output(net.op("Conv", {net.op("Relu", {x}), weight}));
  const Graph before = net.graph.clone();
  fold_batch_normalization(net.graph);
  expect_same_function(before, net.graph);
}

TEST(FoldBatchNormalization, RefusesValuesThatOthersRead) {
  for (const bool as_output : {true, false}) {
    GraphBuilder net;
    Variable* y = net.conv(net.input({1, 4, 5, 5}), 4);
    net.output(batch_normalization(net, y, 4));
    net.output(as_output ? y : net.op("Relu", {y}));
    EXPECT_FALSE(fold_batch_normalization(net.graph, {.replace_isolated = false}).changed());
  }
}

TEST(FoldBatchNormalization, IsolatedOnesOfEveryRank) {
  const std::vector<std::pair<Shape, std::vector<std::string>>> cases{
      {{2, 4}, {"Mul", "Add"}}, {{2, 4, 5}, {"Conv"}}, {{2, 4, 5, 3}, {"Conv"}}, {{2, 4, 5, 3, 2}, {"Mul", "Add"}}};
  for (const auto& [shape, expected] : cases)
    for (const at::ScalarType arithmetic : {at::kDouble, at::kFloat}) {
      GraphBuilder net;
      net.output(batch_normalization(net, net.op("Relu", {net.input(shape)}), 4));
      const Graph before = net.graph.clone();
      fold_batch_normalization(net.graph, {.arithmetic = arithmetic});
      remove_dead_code(net.graph);
      auto found = types(net.graph);
      found.erase(found.begin());
      EXPECT_EQ(found, expected);
      expect_same_function(before, net.graph);
    }
}

TEST(FoldBatchNormalization, LikeIncumbentMovesToTheEndAndRenames) {
  GraphBuilder net;
  net.output(net.op("Relu", "r", {batch_normalization(net, net.conv("c", net.input({1, 4, 5, 5}), 4), 4)}));
  format_like_incumbent(net.graph);
  const auto operations = net.graph.operations();
  EXPECT_EQ(operations[0]->name(), "r");
  EXPECT_EQ(operations[1]->name(), "c");
  EXPECT_EQ(operations[1]->input(1)->name(), "c_weight");
  EXPECT_EQ(operations[1]->input(2)->name(), "c_bias");
}

// ------------------------------------------------------------------------------------------------ scale and offset
TEST(FoldScale, PerChannelConstantsIntoTheWeightsInFront) {
  for (const char* type : {"Mul", "Div"})
    for (const Case& linear : linear_cases())
      for (const bool first : {false, true}) {
        if (first && std::string(type) == "Div") continue;
        GraphBuilder net;
        Variable* y = linear.make(net);
        Shape shape(y->shape()->size(), 1);
        shape[1] = linear.channels;
        Variable* factor = net.constant(at::rand(shape) + 0.5);
        net.output(net.op(type, first ? std::vector{factor, y} : std::vector{y, factor}));
        const Graph before = net.graph.clone();
        EXPECT_TRUE(fold_scale(net.graph, {.into_consumer = false}).changed()) << linear.type;
        EXPECT_THAT(types(net.graph), ElementsAre(linear.type));
        expect_same_function(before, net.graph);
      }
}

TEST(FoldScale, IntoTheWeightsBehind) {
  for (const Shape& shape : {Shape{}, Shape{1, 4, 1, 1}, Shape{4, 1, 1}}) {
    GraphBuilder net;
    Variable* scaled = net.op("Mul", {net.input({2, 4, 5, 5}), net.constant(at::rand(shape) + 0.5)});
    net.output(net.op("Conv", {scaled, net.random({6, 2, 3, 3}), net.random({6})},
                      {{"group", int64_t{2}}, {"pads", Shape{1, 1, 1, 1}}}));
    const Graph before = net.graph.clone();
    EXPECT_TRUE(fold_scale(net.graph).changed());
    remove_dead_code(net.graph);
    EXPECT_THAT(types(net.graph), ElementsAre("Conv"));
    expect_same_function(before, net.graph);
  }
}

TEST(FoldScale, RefusesOtherAxesBroadcastsAndReciprocals) {
  const auto refused = [](const std::function<void(GraphBuilder&, Variable*)>& use) {
    GraphBuilder net;
    use(net, net.conv(net.input({1, 4, 5, 5}), 4));
    return !fold_scale(net.graph).changed();
  };
  EXPECT_TRUE(refused([](GraphBuilder& net, Variable* y) {
    net.output(net.op("Mul", {y, net.random({1, 1, 5, 5})}));
  }));
  EXPECT_TRUE(refused([](GraphBuilder& net, Variable* y) {
    net.output(net.op("Mul", {y, net.random({2, 1, 4, 1, 1})}));
  }));
  EXPECT_TRUE(refused([](GraphBuilder& net, Variable* y) {
    net.output(net.op("Div", {net.random({1, 4, 1, 1}), y}));
  }));
  EXPECT_TRUE(refused([](GraphBuilder& net, Variable* y) { net.output(net.op("Div", {y, net.scalar(0)})); }));
  EXPECT_TRUE(refused([](GraphBuilder& net, Variable* y) {
    net.output(net.op("Mul", {y, net.scalar(2)}));
    net.output(y);
  }));
}

TEST(FoldOffset, AddsToTheBiasThatIsThere) {
  for (const Case& linear : linear_cases())
    for (const int kind : {0, 1, 2}) {
      GraphBuilder net;
      Variable* y = linear.make(net);
      Shape shape(y->shape()->size(), 1);
      shape[1] = linear.channels;
      Variable* offset = net.random(shape);
      net.output(kind == 0 ? net.op("Add", {offset, y})
                           : net.op("Sub", kind == 1 ? std::vector{y, offset} : std::vector{offset, y}));
      const Graph before = net.graph.clone();
      EXPECT_TRUE(fold_offset(net.graph).changed());
      EXPECT_THAT(types(net.graph), ElementsAre(linear.type));
      expect_same_function(before, net.graph);
    }
}

TEST(FoldOffset, LikeIncumbentLeavesOperationsWithABias) {
  for (const bool has_bias : {false, true}) {
    GraphBuilder net;
    std::vector<Variable*> operands{net.input({1, 4, 5, 5}), net.random({4, 4, 1, 1})};
    if (has_bias) operands.push_back(net.random({4}));
    net.output(net.op("Add", {net.op("Conv", operands), net.random("shift", {1, 4, 1, 1})}));
    const Graph before = net.graph.clone();
    format_like_incumbent(net.graph);
    EXPECT_EQ(types(net.graph).size(), has_bias ? 2u : 1u);
    expect_same_function(before, net.graph);
  }
}

TEST(FoldOffset, RefusesOtherAxesAndOtherReaders) {
  GraphBuilder net;
  Variable* y = net.conv(net.input({1, 4, 5, 5}), 4);
  net.output(net.op("Add", {y, net.random({5, 5})}));
  Variable* z = net.conv(y, 4);
  net.output(net.op("Add", {z, net.scalar(1)}));
  net.output(z);
  EXPECT_FALSE(fold_offset(net.graph).changed());
}

TEST(FoldGemmFactors, AlphaAndBeta) {
  for (const float beta : {0.0F, 1.0F, -2.0F}) {
    GraphBuilder net;
    net.output(
        net.op("Gemm", {net.input({3, 5}), net.random({5, 6}), net.random({6})}, {{"alpha", 0.5F}, {"beta", beta}}));
    const Graph before = net.graph.clone();
    fold_gemm_factors(net.graph);
    EXPECT_EQ(net.graph.operations()[0]->float_attribute("alpha"), 1.0F);
    expect_same_function(before, net.graph);
  }
}

// ------------------------------------------------------------------------------------------------ Pad
TEST(FoldPadding, ZerosBecomeThePadsOfTheConv) {
  GraphBuilder net;
  Variable* padded = net.op("Pad", {net.input({1, 4, 5, 6}), net.integers({0, 0, 1, 2, 0, 0, 3, 0})});
  net.output(
      net.op("Conv", {padded, net.random({6, 4, 3, 3})}, {{"pads", Shape{1, 0, 0, 1}}, {"strides", Shape{2, 1}}}));
  net.output(net.op("Relu", {padded}));
  const Graph before = net.graph.clone();
  EXPECT_TRUE(fold_padding(net.graph).changed());
  EXPECT_EQ(net.graph.operations()[1]->ints_attribute("pads"), (Shape{2, 2, 3, 1}));
  expect_same_function(before, net.graph, 1e-6);
}

TEST(FoldPadding, AxesOperand) {
  GraphBuilder net;
  Variable* padded = net.op("Pad", {net.input({1, 4, 5, 6}), net.integers({1, 2}), net.scalar(0), net.integers({-1})});
  net.output(net.op("Conv", {padded, net.random({6, 4, 3, 3})}));
  const Graph before = net.graph.clone();
  EXPECT_TRUE(fold_padding(net.graph).changed());
  remove_dead_code(net.graph);
  EXPECT_THAT(types(net.graph), ElementsAre("Conv"));
  expect_same_function(before, net.graph, 1e-6);
}

TEST(FoldPadding, RefusesOtherModesValuesAxesAndCropping) {
  const auto refused = [](const Shape& pads, const std::string& mode, double value) {
    GraphBuilder net;
    Variable* padded =
        net.op("Pad", {net.input({1, 4, 5, 6}), net.integers(pads), net.scalar(value)}, {{"mode", mode}});
    const int64_t channels = 4 + pads[1] + pads[5];
    net.output(net.op("Conv", {padded, net.random({6, channels, 3, 3})}));
    return !fold_padding(net.graph).changed();
  };
  EXPECT_TRUE(refused({0, 0, 1, 1, 0, 0, 1, 1}, "reflect", 0));
  EXPECT_TRUE(refused({0, 0, 1, 1, 0, 0, 1, 1}, "edge", 0));
  EXPECT_TRUE(refused({0, 0, 1, 1, 0, 0, 1, 1}, "constant", 0.5));
  EXPECT_TRUE(refused({0, 1, 1, 1, 0, 0, 1, 1}, "constant", 0));
  EXPECT_TRUE(refused({0, 0, -1, 1, 0, 0, 1, 1}, "constant", 0));
}

// ------------------------------------------------------------------------------------------------ Gemm
TEST(MatMulToGemm, TwoAndThreeDimensions) {
  for (const Shape& shape : {Shape{3, 5}, Shape{2, 3, 5}, Shape{2, 1, 3, 5}})
    for (const bool bias_first : {false, true}) {
      GraphBuilder net;
      Variable* product = net.op("MatMul", "product", {net.input(shape), net.random({5, 6})});
      Variable* bias = net.random("bias", {6});
      net.output(net.op("Add", bias_first ? std::vector{bias, product} : std::vector{product, bias}));
      const Graph before = net.graph.clone();
      EXPECT_TRUE(matmul_to_gemm(net.graph).changed());
      Operation* gemm = net.graph.find_operation("product");
      EXPECT_EQ(gemm->type(), "Gemm");
      EXPECT_EQ(gemm->input(2), bias);
      const std::vector<std::string> wrapped{"Reshape", "Gemm", "Reshape"};
      EXPECT_EQ(types(net.graph), shape.size() == 2 ? std::vector<std::string>{"Gemm"} : wrapped);
      expect_same_function(before, net.graph);
    }
}

TEST(MatMulToGemm, RefusesDynamicOperandsAndOtherBiases) {
  GraphBuilder net;
  Variable* x = net.input({3, 5});
  Variable* dynamic = net.op("MatMul", {x, net.op("Transpose", {x}, {{"perm", Shape{1, 0}}})});
  net.output(net.op("Add", {dynamic, net.random({3})}));
  net.output(net.op("Add", {net.op("MatMul", {x, net.random({5, 6})}), net.random({3, 6})}));
  net.output(net.op("MatMul", {x, net.random({5, 6})}));
  EXPECT_FALSE(matmul_to_gemm(net.graph).changed());
}

TEST(FoldTransposeIntoGemm, BothOperands) {
  GraphBuilder net;
  Variable* a = net.op("Transpose", {net.input({5, 3})}, {{"perm", Shape{1, 0}}});
  Variable* b = net.op("Transpose", {net.input("b", {6, 5})}, {{"perm", Shape{1, 0}}});
  net.output(net.op("Gemm", {a, b}));
  net.output(net.op("Gemm", {net.op("Relu", {b}), a}, {{"transA", int64_t{1}}, {"transB", int64_t{1}}}));
  const Graph before = net.graph.clone();
  EXPECT_EQ(fold_transpose_into_gemm(net.graph).total(), 3);
  expect_same_function(before, net.graph);
}

}  // namespace
}  // namespace espq
