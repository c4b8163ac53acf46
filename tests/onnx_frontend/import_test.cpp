// What the importer makes of files: names, order, constants, and one opset difference after the other.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iostream>

#include "core/exec/executor.h"
#include "core/support/error.h"
#include "tests/onnx_frontend/onnx_model_builder.h"
#include "tests/reference_data.h"

namespace espq {
namespace {

using test::integer;
using test::integers;
using test::OnnxModelBuilder;
using test::real;
using test::reals;
using test::text;
using test::user_error_of;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

at::Tensor run(const Graph& graph, const at::Tensor& input) {
  verify(graph);
  return Executor(graph, Precision::Float).run(Tensors{input}).at(0);
}

at::Tensor row(const std::vector<float>& values) { return at::tensor(values).unsqueeze(0); }

/// One node with input x and output y.
struct OneNode {
  int64_t opset;
  std::string type;
  std::vector<onnx_file::Attribute> attributes = {};
  std::vector<std::string> inputs = {"x"};
  OnnxModelBuilder build(const Shape& shape) const {
    OnnxModelBuilder builder(opset);
    return builder.input("x", shape).node(type, "n", inputs, {"y"}, attributes).output("y");
  }
};

std::vector<int64_t> integers_of(const Operation& operation, size_t slot) {
  const at::Tensor value = operation.input(slot)->value().contiguous();
  return {value.const_data_ptr<int64_t>(), value.const_data_ptr<int64_t>() + value.numel()};
}

// ------------------------------------------------------------------------------------------------ names and order
TEST(OnnxImport, KeepsTheFilesOrderAndMakesNamesUnique) {
  OnnxModelBuilder builder(17);
  builder.input("x", {1, 4})
      .constant("unused", at::ones({2}))
      .constant("c", at::ones({4}))
      .node("Relu", "", {"x"}, {"a"})
      .node("Constant", "k", {}, {"d"}, {test::tensor("value", at::full({4}, 2.0f))})
      .node("Add", "twin", {"a", "c"}, {"b"})
      .node("Relu", "twin", {"b"}, {"e"})
      .node("Mul", "Relu_0", {"e", "d"}, {"y"})
      .output("y");
  const Graph graph = builder.import();
  std::vector<std::string> operations, variables;
  for (const auto* operation : graph.operations()) operations.push_back(operation->name());
  for (const auto* variable : graph.variables()) variables.push_back(variable->name());
  EXPECT_THAT(operations, ElementsAre("Relu_0_2", "twin", "twin_2", "Relu_0"));
  EXPECT_THAT(variables, ElementsAre("x", "a", "c", "b", "e", "d", "y"));
  EXPECT_EQ(graph.ir_version, 8);
  EXPECT_TRUE(at::equal(run(graph, at::full({1, 4}, -1.0f)), at::full({1, 4}, 2.0f)));
}

TEST(OnnxImport, OutOfOrderNodesAreAccepted) {
  OnnxModelBuilder builder(17);
  builder.input("x", {1, 4}).node("Neg", "second", {"a"}, {"y"}).node("Relu", "first", {"x"}, {"a"}).output("y");
  EXPECT_TRUE(at::equal(run(builder.import(), at::ones({1, 4})), at::full({1, 4}, -1.0f)));
}

TEST(OnnxImport, InitializersListedAsInputsAreConstants) {
  OnnxModelBuilder builder(8);
  builder.input("x", {1, 4}).input("c", {4}).constant("c", at::ones({4})).node("Add", "n", {"x", "c"}, {"y"});
  builder.output("y");
  const Graph graph = builder.import();
  ASSERT_EQ(graph.inputs().size(), 1u);
  EXPECT_TRUE(graph.find_variable("c")->is_parameter());
}

TEST(OnnxImport, SpelledConstants) {
  OnnxModelBuilder builder(13);
  builder.input("x", {1, 2})
      .node("Constant", "", {}, {"f"}, {real("value_float", 2)})
      .node("Constant", "", {}, {"l"}, {reals("value_floats", {1, 3})})
      .node("Constant", "", {}, {"s"}, {integers("value_ints", {2, 1})})
      .node("Mul", "m", {"x", "f"}, {"a"})
      .node("Add", "p", {"a", "l"}, {"b"})
      .node("Reshape", "r", {"b", "s"}, {"y"})
      .output("y");
  EXPECT_TRUE(at::equal(run(builder.import(), at::ones({1, 2})), at::tensor({3.0f, 5.0f}).reshape({2, 1})));
}

TEST(OnnxImport, WideAndNarrowFloatsBecomeFloat32) {
  for (const auto type : {at::kHalf, at::kDouble, at::kBFloat16}) {
    OnnxModelBuilder builder(17);
    builder.input("x", {1, 2}, type).constant("c", at::tensor({0.5f, 2.0f}).to(type));
    builder.node("Mul", "n", {"x", "c"}, {"y"}).output("y");
    const Graph graph = builder.import();
    EXPECT_EQ(graph.inputs()[0]->dtype(), at::kFloat);
    EXPECT_TRUE(at::equal(graph.find_variable("c")->value(), at::tensor({0.5f, 2.0f})));
  }
}

// Networks as exporters write them. What may keep one out is an operator that the table does not have yet.
TEST(OnnxImport, ReadsTheReferenceNetworks) {
  int imported = 0, refused = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(peer_cases().folder)) {
    if (entry.path().extension() != ".onnx") continue;
    try {
      verify(import_onnx(entry.path()));
      ++imported;
    } catch (const UserError& error) {
      ++refused;
      std::cout << error.what() << "\n";
      EXPECT_THAT(error.what(), HasSubstr("espq does not have"));
    }
  }
  std::cout << imported << " networks imported, " << refused << " refused\n";
  EXPECT_GT(imported, refused);
}

// ------------------------------------------------------------------------------------------------ refusals
TEST(OnnxImport, NamesAllOperatorsThatItDoesNotHave) {
  OnnxModelBuilder builder(17);
  builder.input("x", {1, 4})
      .node("If", "branch", {"x"}, {"a"})
      .node("Sorcery", "spell", {"a"}, {"b"})
      .node("Sorcery", "spell2", {"b"}, {"c"})
      .node("QuantizeLinear", "q", {"c"}, {"d"})
      .node("Relu", "r", {"d"}, {"y"})
      .output("y");
  builder.model.nodes[1].domain = "com.example";
  const std::string what = user_error_of([&] { builder.import(); });
  EXPECT_THAT(what, AllOf(HasSubstr("model.onnx"), HasSubstr("4 of its operators"), HasSubstr("If: node 'branch'"),
                          HasSubstr("com.example::Sorcery: node 'spell'"), HasSubstr("Sorcery: node 'spell2'"),
                          HasSubstr("quantized already")));
}

TEST(OnnxImport, OpsetsOutsideTheRangeAreRefused) {
  for (const int64_t opset : {6, 25, -1}) {
    const std::string what = user_error_of([&] { OneNode{opset, "Relu"}.build({1}).import(); });
    EXPECT_THAT(what, HasSubstr(fmt::format("opset version {}", opset)));
  }
  for (const int64_t opset : {7, 23, 24}) OneNode{opset, "Relu"}.build({1}).import();
}

TEST(OnnxImport, DynamicDimensionsNeedAShape) {
  const OnnxModelBuilder builder = OneNode{17, "Relu"}.build({-1, 3, 8, 8});
  EXPECT_THAT(user_error_of([&] { builder.import(); }),
              AllOf(HasSubstr("input 'x' has dynamic dimensions (nx3x8x8)"), HasSubstr("--input-shape x=")));
  EXPECT_EQ(builder.import({{{"x", {1, 3, 8, 8}}}}).inputs()[0]->shape(), (Shape{1, 3, 8, 8}));
  EXPECT_THAT(user_error_of([&] { builder.import({{{"x", {1, 4, 8, 8}}}}); }), HasSubstr("does not fit"));
  EXPECT_THAT(user_error_of([&] { builder.import({{{"x", {1, 3, 8}}}}); }), HasSubstr("does not fit"));
  EXPECT_THAT(user_error_of([&] { builder.import({{{"x", {0, 3, 8, 8}}}}); }), HasSubstr("impossible"));
  EXPECT_THAT(user_error_of([&] {
                builder.import({{{"z", {1}}, {"x", {1, 3, 8, 8}}}});
              }),
              HasSubstr("has no input 'z'"));
  OnnxModelBuilder without_shape = builder;
  without_shape.model.inputs[0].shape.reset();
  EXPECT_THAT(user_error_of([&] { without_shape.import(); }), HasSubstr("input 'x' has no shape"));
  EXPECT_EQ(without_shape.import({{{"x", {2, 2}}}}).inputs()[0]->shape(), (Shape{2, 2}));
}

TEST(OnnxImport, TrainingGraphsAreRefused) {
  EXPECT_THAT(user_error_of([] {
                OneNode{14, "BatchNormalization", {integer("training_mode", 1)}, {"x", "s", "s", "s", "s"}}
                    .build({1, 2, 4, 4})
                    .constant("s", at::ones({2}))
                    .import();
              }),
              HasSubstr("training mode"));
  OnnxModelBuilder dropout = OneNode{13, "Dropout", {}, {"x", "r", "t"}}.build({1, 4});
  dropout.constant("r", at::scalar_tensor(0.5f)).constant("t", at::scalar_tensor(true, at::kBool));
  EXPECT_THAT(user_error_of([&] { dropout.import(); }), HasSubstr("training mode"));
}

// ------------------------------------------------------------------------------------------------ opset differences
TEST(OnnxOpsets, AttributesThatBecameInputs) {
  const Graph clip = OneNode{6 + 1, "Clip", {real("max", 6)}}.build({1, 4}).import();
  const Operation& clipped = *clip.operations()[0];
  ASSERT_EQ(clipped.inputs().size(), 3u);
  EXPECT_EQ(clipped.input(1), nullptr);
  EXPECT_EQ(clipped.input(2)->value().item<float>(), 6.0f);
  EXPECT_TRUE(at::equal(run(clip, row({-9.f, 1.f, 6.f, 8.f})), row({-9.f, 1.f, 6.f, 6.f})));

  const Graph slice = OneNode{9, "Slice", {integers("starts", {1}), integers("ends", {3}), integers("axes", {1})}}
                          .build({1, 4})
                          .import();
  EXPECT_TRUE(at::equal(run(slice, row({0.f, 1.f, 2.f, 3.f})), row({1.f, 2.f})));

  const Graph pad = OneNode{10, "Pad", {integers("pads", {0, 1, 0, 2}), real("value", 5)}}.build({1, 2}).import();
  EXPECT_TRUE(at::equal(run(pad, row({1.f, 2.f})), row({5.f, 1.f, 2.f, 5.f, 5.f})));
  EXPECT_EQ(
      OneNode({10, "Pad", {integers("pads", {0, 1, 0, 2})}}).build({1, 2}).import().operations()[0]->inputs().size(),
      2u);

  const Graph squeeze = OneNode{11, "Squeeze", {integers("axes", {-1})}}.build({1, 4, 1}).import();
  EXPECT_EQ(run(squeeze, at::ones({1, 4, 1})).sizes().vec(), (Shape{1, 4}));
  const Graph unsqueeze = OneNode{11, "Unsqueeze", {integers("axes", {0, 3})}}.build({1, 4}).import();
  EXPECT_EQ(run(unsqueeze, at::ones({1, 4})).sizes().vec(), (Shape{1, 1, 4, 1}));

  const Graph mean =
      OneNode{17, "ReduceMean", {integers("axes", {2, 3}), integer("keepdims", 0)}}.build({1, 2, 2, 2}).import();
  EXPECT_THAT(integers_of(*mean.operations()[0], 1), ElementsAre(2, 3));
  EXPECT_TRUE(at::equal(run(mean, at::arange(8, at::kFloat).reshape({1, 2, 2, 2})), row({1.5f, 5.5f})));
  const Graph sum = OneNode{11, "ReduceSum", {integers("axes", {1})}}.build({1, 4}).import();
  EXPECT_TRUE(at::equal(run(sum, at::ones({1, 4})), at::full({1, 1}, 4.0f)));
}

TEST(OnnxOpsets, SplitKnowsItsParts) {
  OnnxModelBuilder equal(13);
  equal.input("x", {1, 4}).node("Split", "n", {"x"}, {"a", "y"}, {integer("axis", 1)}).output("y").output("a");
  EXPECT_TRUE(at::equal(run(equal.import(), row({1.f, 2.f, 3.f, 4.f})), row({3.f, 4.f})));
  OnnxModelBuilder given(11);
  given.input("x", {1, 4}).node("Split", "n", {"x"}, {"a", "y"}, {integer("axis", 1), integers("split", {3, 1})});
  given.output("y");
  EXPECT_TRUE(at::equal(run(given.import(), row({1.f, 2.f, 3.f, 4.f})), row({4.f})));
}

TEST(OnnxOpsets, SplitOutputsThatNobodyReadsStay) {
  OnnxModelBuilder builder(13);
  builder.input("x", {1, 4}).node("Split", "n", {"x"}, {"y", "b"}, {integer("axis", 1)}).output("y");
  EXPECT_TRUE(at::equal(run(builder.import(), row({1.f, 2.f, 3.f, 4.f})), row({1.f, 2.f})));
}

TEST(OnnxOpsets, UpsampleAndOldResizeAreFlooredResizes) {
  const at::Tensor input = at::arange(4, at::kFloat).reshape({1, 1, 2, 2});
  const at::Tensor expected = at::repeat_interleave(at::repeat_interleave(input, 2, 2), 2, 3);
  const Graph seven =
      OneNode{7, "Upsample", {reals("scales", {1, 1, 2, 2}), text("mode", "nearest")}}.build({1, 1, 2, 2}).import();
  EXPECT_EQ(seven.operations()[0]->type(), "Resize");
  EXPECT_TRUE(at::equal(run(seven, input), expected));
  for (const auto& [opset, type] : {std::pair(9, "Upsample"), std::pair(10, "Resize")}) {
    const Graph graph = OneNode{opset, type, {}, {"x", "s"}}
                            .build({1, 1, 2, 2})
                            .constant("s", at::tensor({1.f, 1.f, 2.f, 2.f}))
                            .import();
    EXPECT_TRUE(at::equal(run(graph, input), expected)) << type;
  }
  OnnxModelBuilder sized = OneNode{11, "Resize", {}, {"x", "none", "none", "size"}}.build({1, 1, 2, 2});
  sized.constant("none", at::empty({0})).constant("size", at::tensor({1, 1, 4, 4}, at::kLong));
  const Graph graph = sized.import();
  EXPECT_EQ(graph.operations()[0]->input(1), nullptr);
  EXPECT_EQ(graph.operations()[0]->input(2), nullptr);
  EXPECT_EQ(run(graph, input).sizes().vec(), (Shape{1, 1, 4, 4}));
}

// Opset 12 and older: the operand is one matrix, cut in front of `axis`.
TEST(OnnxOpsets, OldSoftmaxIsTakenOverAllAxesBehind) {
  const at::Tensor input = at::rand({2, 3, 4, 1}, at::kFloat);
  const at::Tensor matrix = at::softmax(input.reshape({2, 12}), 1).reshape(input.sizes());
  const Graph flat = OneNode{11, "Softmax"}.build({2, 3, 4, 1}).import();
  EXPECT_TRUE(at::allclose(run(flat, input), matrix));
  EXPECT_EQ(flat.outputs()[0]->name(), "y");
  const Graph log = OneNode{11, "LogSoftmax", {integer("axis", -3)}}.build({2, 3, 4, 1}).import();
  EXPECT_TRUE(at::allclose(run(log, input), at::log(matrix)));
  // One axis is left: the same operator, no reshaping.
  const Graph plain = OneNode{11, "Softmax", {integer("axis", 2)}}.build({2, 3, 4, 1}).import();
  EXPECT_EQ(plain.operation_count(), 1u);
  EXPECT_TRUE(at::allclose(run(plain, input), at::softmax(input, 2)));
  const Graph modern = OneNode{13, "Softmax"}.build({2, 3, 4, 1}).import();
  EXPECT_TRUE(at::allclose(run(modern, input), at::softmax(input, 3)));
}

TEST(OnnxOpsets, OldSoftmaxFindsShapesBehindOtherNodes) {
  OnnxModelBuilder builder(11);
  builder.input("x", {1, 2, 4, 4})
      .constant("w", at::ones({3, 2, 3, 3}))
      .node("Conv", "c", {"x", "w"}, {"h"})
      .node("Softmax", "s", {"h"}, {"y"})
      .output("y");
  const at::Tensor input = at::rand({1, 2, 4, 4});
  const at::Tensor conv = at::conv2d(input, at::ones({3, 2, 3, 3}));
  EXPECT_TRUE(at::allclose(run(builder.import(), input), at::softmax(conv.reshape({1, 12}), 1).reshape({1, 3, 2, 2})));
}

TEST(OnnxOpsets, DropoutAndIdentityOutputs) {
  OnnxModelBuilder builder(12);
  builder.input("x", {1, 4}).node("Dropout", "d", {"x"}, {"y", "mask"}, {integer("seed", 3)}).output("y");
  const Graph graph = builder.import();
  EXPECT_EQ(graph.operations()[0]->type(), "Identity");
  EXPECT_EQ(graph.operations()[0]->outputs().size(), 1u);
  EXPECT_TRUE(at::equal(run(graph, at::ones({1, 4})), at::ones({1, 4})));
}

std::vector<std::string> types_of(const Graph& graph) {
  std::vector<std::string> types;
  for (const Operation* operation : graph.operations()) types.push_back(operation->type());
  return types;
}

TEST(OnnxOperators, PlacesOfTheLargestAreASearchForOne) {
  const at::Tensor x = at::tensor({3.f, -1.f, 3.f, 0.f, 5.f, -7.f}).reshape({2, 3});
  for (const bool largest : {true, false})
    for (const int64_t axis : {0, -1})
      for (const bool keeps : {true, false}) {
        const Graph graph =
            OneNode{13, largest ? "ArgMax" : "ArgMin", {integer("axis", axis), integer("keepdims", keeps)}}
                .build({2, 3})
                .import();
        // LibTorch does not say which of equals it takes.
        const at::Tensor distinct = x + at::arange(6).reshape({2, 3}) * (largest ? -1e-3 : 1e-3);
        const at::Tensor wanted = largest ? at::argmax(distinct, axis, keeps) : at::argmin(distinct, axis, keeps);
        EXPECT_TRUE(at::equal(run(graph, x), wanted)) << largest << axis << keeps;
      }
  EXPECT_THAT(user_error_of([] {
                OneNode{13, "ArgMax", {integer("select_last_index", 1)}}.build({2, 3}).import();
              }),
              AllOf(HasSubstr("ArgMax 'n'"), HasSubstr("select_last_index")));
}

TEST(OnnxOperators, EinsumIsTransposesAndOneProduct) {
  struct Case {
    std::string equation;
    Shape left, right;
    std::vector<std::string> types;
  };
  const std::vector<Case> cases = {
      {"bqhd,bkhd->bhqk", {2, 3, 2, 4}, {2, 5, 2, 4}, {"Transpose", "Transpose", "MatMul", "Identity"}},
      {"ij, jk", {3, 4}, {4, 5}, {"MatMul", "Identity"}},
      {"...ij,...jk->...ik", {2, 3, 4}, {1, 4, 5}, {"Reshape", "Reshape", "MatMul", "Reshape", "Identity"}},
      {"bi,bj->bij", {2, 3}, {2, 4}, {"Reshape", "Reshape", "Mul", "Identity"}},
      {"ik,k->i", {3, 4}, {4}, {"Reshape", "MatMul", "Reshape", "Identity"}},
  };
  for (const Case& each : cases) {
    OnnxModelBuilder builder(12);
    builder.input("x", each.left).input("z", each.right);
    builder.node("Einsum", "n", {"x", "z"}, {"y"}, {text("equation", each.equation)}).output("y");
    const Graph graph = builder.import();
    verify(graph);
    EXPECT_EQ(types_of(graph), each.types) << each.equation;
    const Tensors inputs{at::rand(each.left), at::rand(each.right)};
    const at::Tensor got = Executor(graph, Precision::Float).run(inputs).at(0);
    EXPECT_TRUE(at::allclose(got, at::einsum(each.equation, inputs))) << each.equation;
  }
  const Graph diagonal = OneNode{12, "Einsum", {text("equation", "bii->bi")}}.build({2, 3, 3}).import();
  const at::Tensor x = at::rand({2, 3, 3});
  EXPECT_TRUE(at::equal(run(diagonal, x), at::diagonal(x, 0, 1, 2)));
  EXPECT_THAT(user_error_of([] {
                OneNode{12, "Einsum", {text("equation", "ij->k")}}.build({2, 3}).import();
              }),
              AllOf(HasSubstr("Einsum 'n'"), HasSubstr("ij->k")));
  EXPECT_THAT(user_error_of([] {
                OneNode{12, "Einsum", {text("equation", "ii->i")}}.build({2, 3}).import();
              }),
              HasSubstr("one letter stands for axes of 2 and 3 elements"));
}

TEST(OnnxOperators, GlobalLpPoolReducesWhatLiesBehindTheChannels) {
  const at::Tensor x = at::randn({2, 3, 4, 5});
  for (const int64_t order : {1, 2, 3}) {
    const Graph graph = OneNode{13, "GlobalLpPool", {integer("p", order)}}.build({2, 3, 4, 5}).import();
    const at::Tensor wanted = x.abs().pow(order).sum({2, 3}, true).pow(1.0 / static_cast<double>(order));
    EXPECT_TRUE(at::allclose(run(graph, x), wanted, 1e-4)) << order;
    EXPECT_EQ(graph.operations()[0]->type(), order == 1 ? "ReduceL1" : order == 2 ? "ReduceL2" : "Abs");
  }
}

TEST(OnnxOperators, IndicesThatNobodyReadsVanish) {
  OnnxModelBuilder builder(12);
  builder.input("x", {1, 1, 4, 4});
  builder.node("MaxPool", "pool", {"x"}, {"y", "places"}, {integers("kernel_shape", {2, 2})}).output("y");
  EXPECT_EQ(builder.import().operations()[0]->outputs().size(), 1U);
}

TEST(OnnxOpsets, BatchNormalizationLosesItsTrainingAttributes) {
  OnnxModelBuilder builder =
      OneNode{7, "BatchNormalization", {integer("spatial", 1)}, {"x", "s", "b", "m", "v"}}.build({1, 2, 2, 2});
  builder.constant("s", at::tensor({1.f, 2.f})).constant("b", at::tensor({0.f, 1.f}));
  builder.constant("m", at::tensor({1.f, -1.f})).constant("v", at::tensor({4.f, 1.f}));
  const Graph graph = builder.import();
  EXPECT_FALSE(graph.operations()[0]->has("spatial"));
  const at::Tensor result = run(graph, at::ones({1, 2, 2, 2}));
  EXPECT_NEAR(result[0][0][0][0].item<float>(), 0.0f, 1e-6);
  EXPECT_NEAR(result[0][1][0][0].item<float>(), 5.0f, 1e-4);  // epsilon 1e-5 is inside the root
}

TEST(OnnxOpsets, OldGroupNormalizationHasOneScalePerGroup) {
  OnnxModelBuilder builder(18);
  builder.input("x", {1, 4, 3}).constant("s", at::tensor({1.f, 2.f})).constant("b", at::tensor({0.f, 5.f}));
  builder.node("GroupNormalization", "n", {"x", "s", "b"}, {"y"}, {integer("num_groups", 2)}).output("y");
  const at::Tensor input = at::rand({1, 4, 3});
  const Graph graph = builder.import();
  EXPECT_EQ(graph.operations()[0]->input(1)->value().numel(), 4);
  const at::Tensor expected =
      at::group_norm(input, 2, at::tensor({1.f, 1.f, 2.f, 2.f}), at::tensor({0.f, 0.f, 5.f, 5.f}), 1e-5);
  EXPECT_TRUE(at::allclose(run(graph, input), expected));
}

// ------------------------------------------------------------------------------------------------ windows
TEST(OnnxWindows, DefaultsAreSpelledOut) {
  OnnxModelBuilder builder = OneNode{17, "Conv", {}, {"x", "w"}}.build({1, 1, 5, 5});
  builder.constant("w", at::ones({1, 1, 3, 2}));
  const Graph graph = builder.import();
  const Operation& conv = *graph.operations()[0];
  EXPECT_THAT(conv.ints_attribute("kernel_shape"), ElementsAre(3, 2));
  EXPECT_THAT(conv.ints_attribute("strides"), ElementsAre(1, 1));
  EXPECT_THAT(conv.ints_attribute("dilations"), ElementsAre(1, 1));
  EXPECT_THAT(conv.ints_attribute("pads"), ElementsAre(0, 0, 0, 0));
  EXPECT_EQ(conv.int_attribute("group"), 1);
}

TEST(OnnxWindows, PaddingByRuleBecomesPads) {
  const auto pads = [](const std::string& type, const std::string& rule, std::vector<onnx_file::Attribute> more = {}) {
    more.push_back(text("auto_pad", rule));
    more.push_back(integers("strides", {2, 2}));
    OnnxModelBuilder builder = OneNode{17, type, more, {"x", "w"}}.build({1, 1, 6, 5});
    builder.constant("w", at::ones({1, 1, 3, 3}));
    return builder.import().operations()[0]->ints_attribute("pads");
  };
  EXPECT_THAT(pads("Conv", "SAME_UPPER"), ElementsAre(0, 1, 1, 1));
  EXPECT_THAT(pads("Conv", "SAME_LOWER"), ElementsAre(1, 1, 0, 1));
  EXPECT_THAT(pads("Conv", "VALID"), ElementsAre(0, 0, 0, 0));
  // (6-1)*2 + 3 = 13 and (5-1)*2 + 3 = 11 rows and columns, twice the input is wanted: one too many each.
  EXPECT_THAT(pads("ConvTranspose", "SAME_UPPER"), ElementsAre(0, 0, 1, 1));
  EXPECT_THAT(pads("ConvTranspose", "SAME_LOWER"), ElementsAre(1, 1, 0, 0));
  EXPECT_THAT(pads("ConvTranspose", "NOTSET", {integers("output_shape", {10, 11})}), ElementsAre(2, 0, 1, 0));
}

}  // namespace
}  // namespace espq
