#include <gmock/gmock.h>

#include "core/graph/match.h"
#include "core/support/error.h"
#include "core/support/json_fields.h"
#include "parity/format.h"
#include "passes/simplify/merge_chains.h"
#include "passes/simplify/merge_duplicates.h"
#include "passes/simplify/remove_dead_code.h"
#include "passes/simplify/remove_no_ops.h"
#include "passes/simplify/separate_parameters.h"
#include "passes/simplify/simplify.h"
#include "tests/simplify/same_function.h"
#include "tests/support/graph_builder.h"

namespace espq {
namespace {

using namespace test;
using testing::ElementsAre;

TEST(RemoveNoOps, CutsOutWhatDoesNothing) {
  GraphBuilder net;
  Variable* x = net.op("Neg", {net.input({2, 3, 4})});
  x = net.op("Identity", {x});
  x = net.op("Dropout", {x});
  x = net.op("Cast", {x}, {{"to", int64_t{1}}});
  x = net.op("Transpose", {x}, {{"perm", Shape{0, 1, 2}}});
  x = net.op("Reshape", {x, net.integers({2, -1, 4})});
  x = net.op("Pad", {x, net.integers({0, 0, 0, 0, 0, 0})});
  x = net.op("Slice", {x, net.integers({0}), net.integers({9}), net.integers({2})});
  x = net.op("Concat", {x}, {{"axis", int64_t{0}}});
  x = net.op("Expand", {x, net.integers({3, 4})});
  x = net.op("Relu", {net.op("Relu", {x})});
  net.output(net.op("Identity", {x}));
  const Graph before = net.graph.clone();
  EXPECT_EQ(remove_no_ops(net.graph).total(), 11);
  EXPECT_THAT(types(net.graph), ElementsAre("Neg", "Relu"));
  expect_same_function(before, net.graph, 0);
}

TEST(RemoveNoOps, KeepsWhatDoesSomething) {
  GraphBuilder net;
  Variable* x = net.op("Neg", {net.input({2, 3, 3})});
  net.output(net.op("Cast", {x}, {{"to", int64_t{7}}}));
  net.output(net.op("Transpose", {x}, {{"perm", Shape{0, 2, 1}}}));
  net.output(net.op("Reshape", {x, net.integers({3, 2, 3})}));
  net.output(net.op("Slice", {x, net.integers({-1}), net.integers({-9}), net.integers({0}), net.integers({-1})}));
  net.output(net.op("Pad", {x, net.integers({0, 0, 0, 0, 0, 1})}));
  EXPECT_FALSE(remove_no_ops(net.graph).changed());
}

TEST(RemoveNoOps, CutsOutTheLargestOfOneTensor) {
  GraphBuilder net;
  Variable* x = net.op("Sigmoid", "first", {net.input({1, 3, 4})});
  Variable* most = net.op("Max", "most", {x, x});
  Variable* mean = net.op("Mean", "mean", {most, most, most});
  Variable* sum = net.op("Sum", "sum", {mean, mean});
  net.outputs({net.op("Min", "least", {sum, x})});
  EXPECT_EQ(remove_no_ops(net.graph).total(), 2);
  EXPECT_EQ(net.operation("sum").input(0), x);
  EXPECT_NE(net.graph.find_operation("least"), nullptr);
}

// The first step of an unrolled recurrent cell.
TEST(Simplify, ZeroStatesLeaveNothing) {
  GraphBuilder net;
  Variable* x = net.op("Sigmoid", "gate", {net.input({1, 4})});
  Variable* state = net.op("Mul", {x, net.constant(at::zeros({1, 4}))});
  Variable* sum = net.op("Add", {state, net.op("Tanh", "new", {x})});
  net.output(net.op("Neg", {net.op("Sub", {sum, net.constant(at::zeros({4}))})}));
  const Graph before = net.graph.clone();
  simplify(net.graph);
  EXPECT_THAT(types(net.graph), ElementsAre("Sigmoid", "Tanh", "Neg"));
  expect_same_function(before, net.graph, 0);
}

TEST(RemoveNoOps, KeepsZerosThatBroadcast) {
  GraphBuilder net;
  net.output(net.op("Neg", {net.op("Add", {net.input({1, 4}), net.constant(at::zeros({3, 1}))})}));
  EXPECT_FALSE(remove_no_ops(net.graph).changed());
}

TEST(RemoveNoOps, TheLargestOfOneTensorIsItWhereNothingElseIsLeft) {
  GraphBuilder net;
  Variable* x = net.input("x", {1, 4});
  net.outputs({net.op("Max", "most", {x, x}), net.op("Identity", "same", {x})});
  EXPECT_EQ(remove_no_ops(net.graph).times("idle Max became Identity"), 1);
  EXPECT_EQ(net.operation("most").inputs().size(), 1U);
  EXPECT_FALSE(remove_no_ops(net.graph).changed());
}

TEST(RemoveNoOps, KeepsNamesOfInputsAndOutputs) {
  GraphBuilder net;
  Variable* x = net.input({3});
  net.output(net.op("Identity", {x}));
  Variable* y = net.op("Relu", {x});
  net.output(y);
  net.output(net.op("Identity", {y}));
  const Graph before = net.graph.clone();
  remove_no_ops(net.graph);
  expect_same_function(before, net.graph, 0);
}

TEST(MergeDuplicates, EqualOperationsBecomeOne) {
  GraphBuilder net;
  Variable* x = net.input({1, 4, 5, 5});
  const at::Tensor weight = at::randn({4, 4, 1, 1});
  Variable* a = net.op("Conv", {x, net.constant(weight)});
  Variable* b = net.op("Conv", {x, net.constant(weight.clone())});
  Variable* c = net.op("Conv", {x, net.constant(weight * 2)});
  Variable* d = net.op("Conv", {x, net.constant(weight)}, {{"pads", Shape{1, 1, 1, 1}}});
  net.output(net.op("Add", {net.op("Relu", {a}), net.op("Relu", {b})}));
  net.output(net.op("Concat", {net.op("Flatten", {c}), net.op("Flatten", {d})}, {{"axis", int64_t{1}}}));
  const Graph before = net.graph.clone();
  EXPECT_EQ(merge_duplicates(net.graph).total(), 2);  // Conv and the Relu behind it
  expect_same_function(before, net.graph, 0);
}

TEST(MergeDuplicates, GraphOutputsStay) {
  GraphBuilder net;
  Variable* x = net.input({3});
  net.output(net.op("Relu", {x}));
  net.output(net.op("Relu", {x}));
  EXPECT_FALSE(merge_duplicates(net.graph).changed());
}

TEST(RemoveDeadCode, KeepsGraphInputs) {
  GraphBuilder net;
  Variable* x = net.input({3});
  net.input("unused", {3});
  net.op("Add", {net.op("Relu", {x}), net.random({3})});
  net.output(net.op("Neg", {x}));
  remove_dead_code(net.graph);
  EXPECT_THAT(types(net.graph), ElementsAre("Neg"));
  EXPECT_EQ(net.graph.variables().size(), 3u);
}

TEST(SeparateParameters, OneReaderEach) {
  GraphBuilder net;
  Variable* w = net.random("w", {3});
  Variable* x = net.op("Add", {net.input({3}), w});
  net.output(net.op("Mul", {net.op("Mul", {x, w}), w}));
  const Graph before = net.graph.clone();
  EXPECT_EQ(separate_parameters(net.graph).total(), 2);
  for (const Variable* variable : net.graph.variables()) EXPECT_LE(variable->uses().size(), 1u) << variable->name();
  EXPECT_EQ(net.graph.find_variable("w")->uses()[0].operation->type(), "Add");
  expect_same_function(before, net.graph, 0);
}

// ------------------------------------------------------------------------------------------------ chains
/// One pair of neighbours becomes one operation, and nothing else changes.
void expect_one_merge(GraphBuilder& net) {
  const Graph before = net.graph.clone();
  EXPECT_EQ(merge_chains(net.graph).total(), 1);
  expect_same_function(before, net.graph, 0);
}

TEST(MergeChains, Transposes) {
  GraphBuilder net;
  Variable* first = net.op("Transpose", {net.input({2, 3, 4})}, {{"perm", Shape{1, 2, 0}}});
  net.output(net.op("Transpose", {first}, {{"perm", Shape{1, 0, 2}}}));
  net.output(net.op("Relu", {first}));
  expect_one_merge(net);
}

TEST(MergeChains, Reshapes) {
  GraphBuilder net;
  Variable* x = net.op("Reshape", {net.input({2, 3, 4}), net.integers({6, -1})});
  x = net.op("Unsqueeze", {x, net.integers({0})});
  x = net.op("Flatten", {x}, {{"axis", int64_t{2}}});
  net.output(net.op("Reshape", {x, net.integers({0, 2, -1})}));
  const Graph before = net.graph.clone();
  merge_chains(net.graph);
  remove_dead_code(net.graph);
  EXPECT_THAT(types(net.graph), ElementsAre("Reshape"));
  expect_same_function(before, net.graph, 0);
}

TEST(MergeChains, ReshapeMovesBehindElementwiseOperations) {
  GraphBuilder net;
  Variable* x = net.op("Reshape", {net.input({2, 3, 4}), net.integers({6, 4})});
  x = net.op("Clip", {net.op("Relu", {x}), net.scalar(0.1), net.scalar(1)});
  net.output(net.op("Reshape", {x, net.integers({2, 3, 4})}));
  const Graph before = net.graph.clone();
  simplify(net.graph, {.merge_clamps = false});
  EXPECT_THAT(types(net.graph), ElementsAre("Relu", "Clip"));
  expect_same_function(before, net.graph, 0);
}

// A convolution over time as TensorFlow writes it.
TEST(MergeChains, ReshapeMovesBehindConstantsOfChannels) {
  GraphBuilder net;
  Variable* x = net.conv("conv", net.input({1, 3, 1, 8}), 4);
  x = net.op("Squeeze", {x, net.integers({2})});
  x = net.op("Add", "bias", {net.random({4, 1}), x});
  x = net.op("Mul", {net.op("Relu", {x}), net.random({1, 1, 8})});
  x = net.op("Unsqueeze", {x, net.integers({2})});
  net.output(net.op("MaxPool", {x}, {{"kernel_shape", Shape{1, 2}}, {"strides", Shape{1, 2}}}));
  const Graph before = net.graph.clone();
  simplify(net.graph);
  EXPECT_THAT(types(net.graph), ElementsAre("Conv", "Relu", "Mul", "MaxPool"));
  expect_same_function(before, net.graph, 1e-5);
}

TEST(MergeChains, ReshapeStaysWhereConstantsDoNotFollow) {
  GraphBuilder net;
  Variable* x = net.op("Reshape", {net.input({2, 3, 4}), net.integers({6, 4})});
  x = net.op("Add", {x, net.random({6, 1})});
  net.output(net.op("Reshape", {x, net.integers({2, 3, 4})}));
  EXPECT_FALSE(merge_chains(net.graph).changed());
}

TEST(MergeChains, SharedConstantKeepsItsShapeForOthers) {
  GraphBuilder net;
  Variable* constant = net.random({4, 1});
  Variable* x = net.op("Squeeze", {net.op("Neg", {net.input({1, 4, 1, 8})}), net.integers({2})});
  x = net.op("Unsqueeze", {net.op("Add", {x, constant}), net.integers({3})});
  net.outputs({net.op("Neg", {x}), net.op("Exp", {constant})});
  const Graph before = net.graph.clone();
  EXPECT_TRUE(merge_chains(net.graph).changed());
  remove_dead_code(net.graph);
  expect_same_function(before, net.graph, 0);
}

// A dense layer on a sequence as Keras writes it.
TEST(MergeChains, OffsetBehindAReshapeBecomesABias) {
  GraphBuilder net;
  Variable* x = net.op("Reshape", {net.input({1, 5, 6}), net.integers({5, 6})});
  x = net.op("Reshape", {net.op("MatMul", {x, net.random({6, 4})}), net.integers({1, 5, 4})});
  x = net.op("Add", "y", {x, net.random({4})});
  net.outputs({x, net.op("Neg", {x})});
  const Graph before = net.graph.clone();
  simplify(net.graph);
  EXPECT_THAT(types(net.graph), ElementsAre("Reshape", "Gemm", "Reshape", "Neg"));
  EXPECT_EQ(net.graph.outputs()[0]->name(), "y");
  expect_same_function(before, net.graph, 1e-5);
}

TEST(MergeChains, OffsetBehindAReshapeStays) {
  for (const bool read_elsewhere : {false, true}) {
    GraphBuilder net;
    Variable* x = net.op("MatMul", {net.input({6, 6}), net.random({6, 4})});
    Variable* rows = net.op("Reshape", {x, net.integers(read_elsewhere ? Shape{1, 6, 4} : Shape{2, 3, 4})});
    net.output(net.op("Add", {rows, net.random(read_elsewhere ? Shape{4} : Shape{3, 1})}));
    if (read_elsewhere) net.output(net.op("Exp", {x}));
    EXPECT_FALSE(merge_chains(net.graph).changed());
  }
}

TEST(MergeChains, TransposeMovesInFrontOfReshapes) {
  for (const Shape& shape : {Shape{1, 4, 1, 6}, Shape{1, 4, 6, 1}, Shape{4, 1, 6, 1}, Shape{1, 1, 4, 6}}) {
    GraphBuilder net;
    Variable* x = net.op("Reshape", {net.op("Relu", {net.input(shape)}), net.integers({1, 4, 6})});
    x = net.op("Transpose", {x}, {{"perm", Shape{0, 2, 1}}});
    net.output(net.op("Reshape", {x, net.integers({1, 24})}));
    const Graph before = net.graph.clone();
    merge_chains(net.graph);
    remove_dead_code(net.graph);
    EXPECT_THAT(types(net.graph), ElementsAre("Relu", "Transpose", "Reshape"));
    if (shape[0] == 1 && shape[1] == 4) {
      EXPECT_EQ(net.graph.topological_order()[1]->ints_attribute("perm"), (Shape{0, 2, 3, 1}));
    }
    expect_same_function(before, net.graph, 0);
  }
}

TEST(MergeChains, ReshapeInFrontOfConvolutionsIsATranspose) {
  GraphBuilder net;
  Variable* x = net.op("Reshape", {net.input({1, 5, 7, 1}), net.integers({1, 1, 5, 7})});
  net.outputs({net.conv("a", x, 2), net.conv("b", x, 3)});
  const Graph before = net.graph.clone();
  merge_chains(net.graph);
  EXPECT_THAT(types(net.graph), ElementsAre("Transpose", "Conv", "Conv"));
  expect_same_function(before, net.graph, 1e-6);
}

TEST(MergeChains, ReshapeStaysAReshape) {
  const auto unchanged = [](const Shape& from, const Shape& to, bool read_as_it_is) {
    GraphBuilder net;
    Variable* x = net.op("Reshape", {net.input(from), net.integers(to)});
    net.output(net.conv("conv", x, 2));
    if (read_as_it_is) net.output(net.op("Neg", {x}));
    EXPECT_FALSE(merge_chains(net.graph).changed());
  };
  unchanged({1, 5, 7, 2}, {1, 2, 5, 7}, false);  // elements move
  unchanged({1, 5, 1, 7}, {1, 1, 5, 7}, false);  // not from channels last
  unchanged({1, 5, 7, 1}, {1, 1, 5, 7}, true);
}

TEST(MergeChains, Slices) {
  GraphBuilder net;
  Variable* x = net.input({6, 8, 4});
  Variable* a = net.op("Slice", {x, net.integers({1}), net.integers({5}), net.integers({0}), net.integers({2})});
  Variable* b =
      net.op("Slice", {a, net.integers({-1, 0}), net.integers({-9, 3}), net.integers({1, -1}), net.integers({-2, 1})});
  net.output(net.op("Relu", {b}));
  Variable* same = net.op(
      "Slice", {net.op("Slice", {x, net.integers({1}), net.integers({5})}), net.integers({1}), net.integers({2})});
  net.output(same);
  expect_one_merge(net);
}

// ------------------------------------------------------------------------------------------------ all together
TEST(Simplify, RunsToAFixedPoint) {
  GraphBuilder net;
  Variable* x = net.input({1, 3, 8, 8});
  x = net.op("Div", {x, net.scalar(255)});
  x = net.op("Pad", {x, net.integers({0, 0, 1, 1, 0, 0, 1, 1})});
  x = net.op("Conv", "stem", {x, net.random({8, 3, 3, 3})});
  x = net.op("BatchNormalization",
             {x, net.random({8}), net.random({8}), net.random({8}), net.constant(at::rand({8}) + 0.5)});
  x = net.op("Mul", {x, net.op("Sigmoid", {net.op("Identity", {x})})});
  Variable* shape = net.op(
      "Concat", {net.op("Slice", {net.op("Shape", {x}), net.integers({0}), net.integers({1})}), net.integers({-1})},
      {{"axis", int64_t{0}}});
  x = net.op("Reshape", {net.op("GlobalAveragePool", {x}), shape});
  x = net.op("Add", {net.op("MatMul", "head", {x, net.random({8, 5})}), net.random({5})});
  net.output(net.op("Log", "tail", {net.op("Softmax", {x}, {{"axis", int64_t{-1}}})}));
  const Graph before = net.graph.clone();
  const Report report = simplify(net.graph);
  EXPECT_THAT(types(net.graph), ElementsAre("Conv", "Swish", "GlobalAveragePool", "Reshape", "Gemm", "LogSoftmax"));
  for (const char* name : {"stem", "head", "tail"}) EXPECT_NE(net.graph.find_operation(name), nullptr);
  expect_same_function(before, net.graph);
  EXPECT_THAT(to_text(report), testing::HasSubstr("BatchNormalization folded into Conv"));
  EXPECT_FALSE(simplify(net.graph).changed());
}

TEST(Simplify, SwitchedOffPassesLeaveTheGraphAlone) {
  GraphBuilder net;
  Variable* x = net.op("Mul", {net.conv(net.input({1, 3, 8, 8}), 4), net.scalar(2)});
  net.output(net.op("Mul", {x, net.op("Sigmoid", {x})}));
  SimplifyOptions options;
  from_json(R"({"fold_scale": false, "fuse_activations": false})", options, "test");
  simplify(net.graph, options);
  EXPECT_THAT(types(net.graph), ElementsAre("Conv", "Mul", "Sigmoid", "Mul"));
  EXPECT_THROW(from_json(R"({"fold_scales": false})", options, "test"), UserError);
}

TEST(FormatLikeIncumbent, OrderOfOperations) {
  GraphBuilder net;
  Variable* x = net.conv("a", net.input({1, 3, 8, 8}), 3);
  x = net.op("BatchNormalization",
             {x, net.random({3}), net.random({3}), net.random({3}), net.constant(at::rand({3}) + 0.5)});
  x = net.op("Mul", {x, net.op("Sigmoid", {x})});
  x = net.op("Add", {net.op("Conv", "b", {x, net.random({3, 3, 1, 1})}), net.random({1, 3, 1, 1})});
  net.output(net.op("Relu", "c", {net.op("Identity", {x})}));
  const Graph before = net.graph.clone();
  format_like_incumbent(net.graph);
  EXPECT_THAT(operation_names(net.graph), ElementsAre("b", "c", "a", "a/Swish"));
  expect_same_function(before, net.graph);
}

}  // namespace
}  // namespace espq
