#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/exec/executor.h"
#include "passes/lowering/lower.h"
#include "passes/lowering/permutation.h"
#include "tests/support/graph_builder.h"

namespace espq {
namespace {

using namespace test;
using ::testing::ElementsAre;
using Ints = std::vector<int64_t>;

at::Tensor to_file_order(const Variable& variable, const at::Tensor& value) {
  if (variable.permutation().empty()) return value;
  return value.permute(Ints(variable.permutation().begin(), variable.permutation().end())).contiguous();
}

/// The lowered graph computes what the graph before computed, up to the recorded permutation of inputs and outputs.
/// Weights lie on their grid, so float results agree to rounding of the sums.
void expect_same_function(const GraphBuilder& before, const Graph& after) {
  Tensors inputs, permuted_inputs;
  for (size_t i = 0; i < before.graph.inputs().size(); ++i) {
    inputs.push_back(at::randint(-64, 64, *before.graph.inputs()[i]->shape()).to(at::kFloat) / 16);
    permuted_inputs.push_back(to_file_order(*after.inputs()[i], inputs[i]));
    EXPECT_EQ(permuted_inputs[i].sizes().vec(), *after.inputs()[i]->shape());
  }
  Graph plain = before.graph.clone();
  const Tensors want = Executor(plain, Precision::Float).run(inputs);
  const Tensors got = Executor(after, Precision::Float).run(permuted_inputs);
  ASSERT_EQ(want.size(), got.size());
  for (size_t i = 0; i < want.size(); ++i) {
    const at::Tensor expected = to_file_order(*after.outputs()[i], want[i]);
    ASSERT_EQ(expected.sizes().vec(), *after.outputs()[i]->shape());
    ASSERT_EQ(expected.sizes(), got[i].sizes());
    EXPECT_TRUE(at::allclose(expected, got[i], 1e-5, 1e-5)) << after.outputs()[i]->name();
  }
}

TEST(Layout, InputsAndOutputsOfConvolutionsStayChannelsLast) {
  GraphBuilder q("esp32p4");
  Variable* x = q.input("x", {1, 3, 5, 7});
  q.outputs({q.quantized_conv("y", x, 4, 3)});
  const Graph lowered = lower(q.graph);
  EXPECT_THAT(types(lowered), ElementsAre("Conv"));
  EXPECT_EQ(*lowered.inputs()[0]->shape(), (Shape{1, 5, 7, 3}));
  EXPECT_EQ(*lowered.outputs()[0]->shape(), (Shape{1, 5, 7, 4}));
  EXPECT_THAT(lowered.outputs()[0]->permutation(), ElementsAre(0, 2, 3, 1));
  EXPECT_TRUE(lowered.is_chip());
  EXPECT_EQ(*q.graph.inputs()[0]->shape(), (Shape{1, 3, 5, 7})) << "the quantized graph changed";
  expect_same_function(q, lowered);
}

TEST(Layout, FlattenSeesTheOrderOfTheModel) {
  GraphBuilder q("esp32p4");
  Variable* x = q.input("x", {1, 3, 4, 5});
  Variable* features = q.quantized_conv("features", x, 4);
  q.outputs({q.quantized("Flatten", "y", {features}, {{"axis", int64_t{1}}})});
  const Graph lowered = lower(q.graph);
  EXPECT_THAT(types(lowered), ElementsAre("Conv", "Transpose", "Flatten"));
  const Operation* transpose = lowered.topological_order()[1];
  EXPECT_EQ(transpose->ints_attribute("perm"), (Ints{0, 3, 1, 2}));
  EXPECT_EQ(*transpose->output()->shape(), (Shape{1, 4, 4, 5}));
  EXPECT_EQ(transpose->chip().kernels, Width::Int8);
  expect_same_function(q, lowered);
}

// Behind a global pool channels first and channels last are the same bytes.
TEST(Layout, ReshapesNeedNoTransposeOfOnes) {
  const auto check = [](const char* type, const std::function<Variable*(GraphBuilder&, Variable*)>& add) {
    GraphBuilder q("esp32p4");
    Variable* x = q.quantized_conv("features", q.input("x", {1, 3, 4, 5}), 4);
    q.outputs({add(q, q.quantized("GlobalAveragePool", "mean", {x}))});
    const Graph lowered = lower(q.graph);
    EXPECT_THAT(types(lowered), ElementsAre("Conv", "GlobalAveragePool", type));
    expect_same_function(q, lowered);
    EXPECT_THAT(types(lower(q.graph, {}, {.stale_transpose_shapes = true})),
                ElementsAre("Conv", "GlobalAveragePool", "Transpose", type));
  };
  check("Flatten", [](GraphBuilder& q, Variable* x) { return q.quantized("Flatten", "y", {x}); });
  check("Squeeze", [](GraphBuilder& q, Variable* x) { return q.quantized("Squeeze", "y", {x, q.integers({-1, 2})}); });
  check("Reshape", [](GraphBuilder& q, Variable* x) { return q.quantized("Reshape", "y", {x, q.integers({2, -1})}); });
}

TEST(Layout, ReshapesKeepTheTransposeThatMovesElements) {
  const auto lowered_types = [](const Shape& input, const std::vector<int64_t>& target, int64_t flatten_axis) {
    GraphBuilder q("esp32p4");
    Variable* x = q.quantized_conv("features", q.input("x", input), 4);
    q.outputs({flatten_axis < 0 ? q.quantized("Reshape", "y", {x, q.integers(target)})
                                : q.quantized("Flatten", "y", {x}, {{"axis", flatten_axis}})});
    const Graph lowered = lower(q.graph);
    expect_same_function(q, lowered);
    return types(lowered);
  };
  EXPECT_THAT(lowered_types({1, 3, 1, 5}, {1, 20}, -1), ElementsAre("Conv", "Transpose", "Reshape"));
  // The 0 stands for a size of the operand, and the axis counts its axes.
  EXPECT_THAT(lowered_types({1, 3, 1, 1}, {0, 0, 1}, -1), ElementsAre("Conv", "Transpose", "Reshape"));
  EXPECT_THAT(lowered_types({1, 3, 1, 1}, {}, 2), ElementsAre("Conv", "Transpose", "Flatten"));
  GraphBuilder q("esp32p4");
  Variable* x = q.quantized_conv("features", q.input("x", {1, 3, 1, 1}), 4);
  q.outputs({q.quantized("Squeeze", "y", {x, q.integers({0, 3})})});  // [4, 1], of [1, 1, 1, 4]
  const Graph lowered = lower(q.graph);
  EXPECT_THAT(types(lowered), ElementsAre("Conv", "Transpose", "Squeeze"));
  expect_same_function(q, lowered);
}

TEST(Layout, ConstantsOfBroadcastsFollowTheActivation) {
  GraphBuilder q("esp32p4");
  Variable* x = q.input("x", {1, 2, 4, 5});
  Variable* a = q.quantized_conv("a", x, 3);
  Variable* full = q.constant("full", at::randint(-9, 9, {1, 3, 1, 1}).to(at::kFloat) / 16);
  Variable* b = q.quantized("Mul", "b", {a, full});
  Variable* vector = q.constant("vector", at::randint(-9, 9, {5}).to(at::kFloat) / 16);
  Variable* c = q.quantized("Add", "c", {vector, b});
  Variable* scalar = q.constant("scalar", at::scalar_tensor(0.25));
  q.outputs({q.quantized("Sub", "y", {c, scalar})});
  const Graph lowered = lower(q.graph);
  EXPECT_EQ(*lowered.find_variable("full")->shape(), (Shape{1, 1, 1, 3}));
  EXPECT_EQ(*lowered.find_variable("vector")->shape(), (Shape{1, 1, 5, 1}));
  EXPECT_EQ(*lowered.find_variable("scalar")->shape(), (Shape{}));
  expect_same_function(q, lowered);

  EXPECT_EQ(*lower(q.graph, {}, {.constants_keep_channels_first = true}).find_variable("full")->shape(),
            (Shape{1, 3, 1, 1}));
}

TEST(Layout, TwoActivationsMeetInChannelsLast) {
  GraphBuilder q("esp32p4");
  Variable* x = q.input("x", {1, 3, 4, 5});
  Variable* z = q.input("z", {1, 60});
  Variable* a = q.quantized_conv("a", x, 3);
  Variable* b = q.quantized("Reshape", "b", {z, q.integers("s", {1, 3, 4, 5})}, {{"allowzero", int64_t{0}}});
  q.outputs({q.quantized("Add", "y", {b, a})});
  const Graph lowered = lower(q.graph);
  EXPECT_EQ(lowered.outputs()[0]->producer()->input(0)->producer()->type(), "Transpose");
  EXPECT_THAT(lowered.outputs()[0]->permutation(), ElementsAre(0, 2, 3, 1));
  expect_same_function(q, lowered);
}

TEST(Layout, AxesAreMapped) {
  GraphBuilder q("esp32p4");
  Variable* x = q.input("x", {1, 4, 6, 5});
  Variable* a = q.quantized_conv("a", x, 4);
  Variable* b = q.quantized_conv("b", x, 3);
  Variable* joined = q.quantized("Concat", "joined", {a, b}, {{"axis", int64_t{-3}}});
  Variable* part = q.quantized("Slice", "part",
                               {joined, q.integers("starts", {1, 2}), q.integers("ends", {6, 6}),
                                q.integers("axes", {1, -2}), q.integers("steps", {1, 1})});
  Variable* soft = q.quantized("Softmax", "soft", {part}, {{"axis", int64_t{1}}});
  soft->producer()->edit_output_quant(0) = {};
  q.outputs({soft});
  const Graph lowered = lower(q.graph);
  EXPECT_EQ(lowered.find_operation("joined")->int_attribute("axis"), 3);
  EXPECT_EQ(lowered.find_operation("soft")->int_attribute("axis"), 3);
  const at::Tensor axes = lowered.find_variable("axes")->value();
  EXPECT_TRUE(at::equal(axes, at::tensor(Ints{3, 1}, at::kLong)));
  EXPECT_EQ(lowered.operation_count(), 5u);
  expect_same_function(q, lowered);
}

TEST(Layout, ReductionsDropAxesOfTheFile) {
  GraphBuilder q("esp32p4");
  Variable* x = q.input("x", {1, 4, 6, 5});
  Variable* a = q.quantized_conv("a", x, 4);
  Variable* pooled = q.quantized("ReduceMean", "pooled", {a, q.integers("hw", {2, 3})}, {{"keepdims", int64_t{0}}});
  Variable* rows = q.quantized("ReduceMax", "rows", {a, q.integers("h", {-2})}, {{"keepdims", int64_t{0}}});
  Variable* kept = q.quantized("ReduceSum", "kept", {a, q.integers("c", {1})}, {{"keepdims", int64_t{1}}});
  Variable* all = q.quantized("ReduceSum", "all", {a}, {{"keepdims", int64_t{0}}});
  q.outputs({pooled, rows, kept, all});
  const Graph lowered = lower(q.graph);
  EXPECT_TRUE(at::equal(lowered.find_variable("hw")->value(), at::tensor(Ints{1, 2}, at::kLong)));
  EXPECT_THAT(lowered.find_variable("pooled")->permutation(), ElementsAre());
  EXPECT_THAT(lowered.find_variable("rows")->permutation(), ElementsAre(0, 2, 1));
  EXPECT_THAT(lowered.find_variable("kept")->permutation(), ElementsAre(0, 2, 3, 1));
  EXPECT_EQ(lowered.operation_count(), 5u);
  expect_same_function(q, lowered);
}

TEST(Layout, OneDimensionalConvolutions) {
  GraphBuilder q("esp32p4");
  Variable* x = q.input("x", {1, 3, 9});
  Variable* a = q.quantized_conv("a", x, 4, 3);
  q.outputs({q.quantized("Transpose", "y", {a}, {{"perm", Ints{0, 2, 1}}})});
  const Graph lowered = lower(q.graph);
  EXPECT_THAT(types(lowered), ElementsAre("Conv")) << "the two transposes undo each other";
  EXPECT_EQ(lowered.outputs()[0]->name(), "y");
  EXPECT_TRUE(lowered.outputs()[0]->permutation().empty());
  expect_same_function(q, lowered);
}

TEST(Layout, TransposesOfDifferentGridsStay) {
  for (const bool wider : {false, true}) {
    GraphBuilder q("esp32p4");
    Variable* t = q.quantized("Transpose", "t", {q.input("x", {2, 3, 4})}, {{"perm", Ints{0, 2, 1}}});
    Operation& u = *q.quantized("Transpose", "u", {t}, {{"perm", Ints{1, 0, 2}}})->producer();
    if (wider) {
      u.set_width(Width::Int16);
      u.edit_input_quant(0) = q.slot(16, {-12});
      u.edit_output_quant(0) = q.slot(16, {-12});
    }
    q.outputs({u.output()});
    const Graph lowered = lower(q.graph);
    if (wider)
      EXPECT_THAT(types(lowered), ElementsAre("Transpose", "RequantizeLinear", "Transpose"));
    else
      EXPECT_THAT(types(lowered), ElementsAre("Transpose"));
  }
}

TEST(Layout, TransposesAroundAFunctionMerge) {
  GraphBuilder q("esp32p4");
  Variable* x = q.input("x", {1, 2, 3, 4});
  Variable* t = q.quantized("Transpose", "t", {x}, {{"perm", Ints{0, 2, 3, 1}}});
  Variable* r = q.quantized("Tanh", "r", {t});
  Variable* u = q.quantized("Transpose", "u", {r}, {{"perm", Ints{0, 1, 3, 2}}});
  q.outputs({q.quantized("Neg", "y", {u})});
  const Graph lowered = lower(q.graph);
  EXPECT_THAT(types(lowered), ElementsAre("Tanh", "Transpose", "Neg"));
  EXPECT_EQ(lowered.topological_order()[1]->ints_attribute("perm"), (Ints{0, 2, 1, 3}));
  expect_same_function(q, lowered);
}

TEST(Permutation, ComposesAndInverts) {
  using namespace lowering;
  const Permutation a{2, 0, 1}, b{1, 0, 2};
  const Shape shape{5, 6, 7};
  EXPECT_EQ(permuted(permuted(shape, a), b), permuted(shape, compose(a, b)));
  EXPECT_TRUE(is_identity(compose(a, inverse(a))));
  EXPECT_EQ(position_of(2, a), 0);
}

}  // namespace
}  // namespace espq
