#include "core/ops/linear.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/ops/operator.h"
#include "core/support/error.h"

namespace espq {
namespace {

constexpr uint64_t kSeed = 5;

/// One layer on a graph input; weight and bias random.
struct Layer {
  std::string type;
  Shape input, weight;
  int64_t channels = 0;  ///< of the result
  AttributeMap attributes = {};
  bool bias = true;
  int64_t channel_axis = 1;

  Graph graph = {};
  Operation* operation = nullptr;
  at::Tensor x = {};

  LinearOperation make() {
    at::manual_seed(kSeed);
    x = at::randn(input);
    Variable& data = graph.add_variable("x");
    data.set_shape(input);
    graph.add_input(data);
    std::vector<Variable*> operands{&data, &graph.add_parameter("w", at::randn(weight))};
    if (bias) operands.push_back(&graph.add_parameter("b", at::randn({channels})));
    Variable& result = graph.add_variable("y");
    graph.add_output(result);
    operation = &graph.add_operation(type, "layer", operands, {&result}, attributes);
    normalize_attributes(*operation);
    return linear_operation(*operation).value();
  }

  at::Tensor run(const Operation& layer, const at::Tensor& data) const {
    Tensors operands{data};
    for (size_t slot = 1; slot < layer.inputs().size(); ++slot) operands.push_back(layer.input(slot)->value());
    return definition_of(layer).forward({.operation = layer}, operands).at(0);
  }

  at::Tensor run(const at::Tensor& data) const { return run(*operation, data); }

  /// `values` [n] along the channels of a tensor like `like`.
  at::Tensor along_channels(const at::Tensor& values, const at::Tensor& like) const {
    Shape shape(static_cast<size_t>(like.dim()), 1);
    shape[channel_axis < 0 ? shape.size() - 1 : 1] = values.numel();
    return values.to(at::kFloat).reshape(shape);
  }
};

std::vector<Layer> layers() {
  std::vector<Layer> result;
  const auto add = [&](Layer layer) { result.push_back(std::move(layer)); };
  add({.type = "Conv", .input = {2, 4, 7, 6}, .weight = {6, 4, 3, 2}, .channels = 6});
  add({.type = "Conv", .input = {1, 4, 9}, .weight = {6, 2, 3}, .channels = 6, .attributes = {{"group", int64_t{2}}}});
  add({.type = "Conv",
       .input = {1, 5, 4, 4},
       .weight = {5, 1, 3, 3},
       .channels = 5,
       .attributes = {{"group", int64_t{5}}},
       .bias = false});
  add({.type = "ConvTranspose", .input = {2, 4, 5, 3}, .weight = {4, 3, 3, 2}, .channels = 3});
  add({.type = "ConvTranspose",
       .input = {1, 6, 5},
       .weight = {6, 4, 3},
       .channels = 8,
       .attributes = {{"group", int64_t{2}}, {"strides", Shape{2}}}});
  add({.type = "Gemm", .input = {3, 5}, .weight = {5, 4}, .channels = 4, .channel_axis = -1});
  add({.type = "Gemm",
       .input = {3, 5},
       .weight = {4, 5},
       .channels = 4,
       .attributes = {{"transB", int64_t{1}}},
       .channel_axis = -1});
  add({.type = "MatMul", .input = {2, 3, 5}, .weight = {5, 4}, .channels = 4, .bias = false, .channel_axis = -1});
  return result;
}

bool close(const at::Tensor& a, const at::Tensor& b) { return at::allclose(a, b, 1e-4, 1e-5); }

TEST(LinearOperation, KnowsTheSizeOfItsMatrix) {
  for (Layer& layer : layers()) {
    SCOPED_TRACE(layer.type);
    const LinearOperation linear = layer.make();
    EXPECT_EQ(linear.rows(), layer.channels);
    EXPECT_EQ(linear.input_channels(), layer.channel_axis < 0 ? layer.input.back() : layer.input[1]);
    EXPECT_EQ(linear.rows() * linear.columns(), linear.weight().numel());
    EXPECT_EQ(linear.rank(), static_cast<int64_t>(layer.input.size()));
    EXPECT_EQ(linear.matrices().sizes().vec(),
              (Shape{linear.groups(), linear.rows() / linear.groups(), linear.columns()}));
    EXPECT_TRUE(at::equal(linear.weight_from(linear.matrices()), linear.weight()));
  }
}

TEST(LinearOperation, ItsRowsTimesThePatchesOfAConvolutionAreTheResult) {
  Layer layer{.type = "Conv",
              .input = {1, 4, 6, 5},
              .weight = {6, 2, 3, 2},
              .channels = 6,
              .attributes = {{"group", int64_t{2}}}};
  const LinearOperation linear = layer.make();
  const at::Tensor patches = at::im2col(layer.x, {3, 2}, {1, 1}, {0, 0}, {1, 1}).reshape({2, 12, -1});
  const at::Tensor products = at::bmm(linear.matrices(), patches).reshape({6, -1});
  const at::Tensor expected = products + linear.bias()->to(at::kFloat).unsqueeze(1);
  EXPECT_TRUE(close(layer.run(layer.x).reshape({6, -1}), expected));
}

TEST(LinearOperation, ItsRowsTimesTheDataOfAMatrixProductAreTheResult) {
  for (const int64_t transposed : {0, 1}) {
    Layer layer{.type = "Gemm",
                .input = {5, 3},
                .weight = transposed ? Shape{4, 5} : Shape{5, 4},
                .channels = 4,
                .attributes = {{"transA", int64_t{1}}, {"transB", transposed}},
                .channel_axis = -1};
    const LinearOperation linear = layer.make();
    const at::Tensor expected = at::matmul(layer.x.t(), linear.matrices()[0].t()) + linear.bias()->to(at::kFloat);
    EXPECT_TRUE(close(layer.run(layer.x), expected)) << transposed;
    EXPECT_FALSE(input_vector(linear, at::ones({5}))) << "the channels of turned data are not its last axis";
  }
}

/// Where no formula is at hand: a row without weights gives its channel the bias alone, and leaves the others.
TEST(LinearOperation, ARowBelongsToOneChannelOfTheResult) {
  for (Layer& layer : layers()) {
    SCOPED_TRACE(layer.type);
    const LinearOperation linear = layer.make();
    const at::Tensor before = layer.run(layer.x);
    const int64_t axis = layer.channel_axis < 0 ? before.dim() - 1 : 1, row = linear.rows() - 2;
    at::Tensor matrices = linear.matrices().clone(at::MemoryFormat::Contiguous);
    matrices.reshape({linear.rows(), -1})[row].zero_();
    linear.set_weight(layer.graph, linear.weight_from(matrices));
    const at::Tensor after = layer.run(layer.x);
    const at::Tensor alone = (*linear.bias())[row].to(at::kFloat).expand_as(after.select(axis, row));
    EXPECT_TRUE(close(after.select(axis, row), alone));
    EXPECT_TRUE(close(after.narrow(axis, 0, row), before.narrow(axis, 0, row)));
    EXPECT_TRUE(close(after.select(axis, row + 1), before.select(axis, row + 1)));
  }
}

TEST(LinearOperation, ScaledRowsScaleTheResultAndScaledColumnsTheData) {
  for (Layer& layer : layers()) {
    SCOPED_TRACE(layer.type);
    layer.bias = false;
    const LinearOperation linear = layer.make();
    const at::Tensor before = layer.run(layer.x), weight = linear.weight().clone();
    const at::Tensor rows = at::rand({linear.rows()}) + 0.5, columns = at::rand({linear.input_channels()}) + 0.5;
    linear.set_weight(layer.graph, linear.scaled_rows(rows));
    EXPECT_TRUE(close(layer.run(layer.x), before * layer.along_channels(rows, before)));
    linear.set_weight(layer.graph, weight);
    linear.set_weight(layer.graph, linear.scaled_columns(columns));
    EXPECT_TRUE(close(layer.run(layer.x / layer.along_channels(columns, layer.x)), before));
  }
}

TEST(LinearOperation, AnAbsentBiasIsZeroAndCanBeSet) {
  Layer layer{.type = "Conv", .input = {1, 2, 3, 3}, .weight = {3, 2, 1, 1}, .channels = 3, .bias = false};
  const LinearOperation linear = layer.make();
  EXPECT_TRUE(at::equal(*linear.bias(), at::zeros({3}, at::kDouble)));
  const at::Tensor before = layer.run(layer.x), bias = at::tensor({1.0, -2.0, 0.5}, at::kDouble);
  linear.set_bias(layer.graph, bias);
  EXPECT_TRUE(at::equal(*linear.bias(), bias));
  EXPECT_TRUE(close(layer.run(layer.x), before + layer.along_channels(bias, before)));
  Layer product{.type = "MatMul", .input = {2, 3}, .weight = {3, 2}, .channels = 2, .bias = false, .channel_axis = -1};
  EXPECT_THROW(product.make().set_bias(product.graph, at::zeros({2})), InternalError);
}

TEST(LinearOperation, SplitsItsOutputs) {
  for (Layer& layer : layers()) {
    SCOPED_TRACE(layer.type);
    const LinearOperation linear = layer.make();
    if (linear.groups() > 1) {
      EXPECT_THROW(linear.split_outputs(layer.graph, {1, linear.rows() - 1}), InternalError);
      continue;
    }
    const at::Tensor whole = layer.run(layer.x);
    const auto parts = linear.split_outputs(layer.graph, {1, layer.channels - 1});
    ASSERT_EQ(parts.size(), 2u);
    Tensors results;
    for (const LinearOperation& part : parts) results.push_back(layer.run(part.operation(), layer.x));
    const Operation* concat = layer.graph.find_variable("y")->producer();
    ASSERT_EQ(concat->type(), "Concat");
    EXPECT_TRUE(close(definition_of(*concat).forward({.operation = *concat}, results).at(0), whole));
    EXPECT_EQ(layer.graph.find_variable("w"), nullptr) << "the whole weight is gone";
    verify(layer.graph);
  }
}

TEST(LinearOperation, IsNoneWithoutAConstantMatrix) {
  Graph graph;
  Variable &a = graph.add_variable("a"), &b = graph.add_variable("b");
  Operation& computed = graph.add_operation("MatMul", "computed", {&a, &b}, {&graph.add_variable("c")});
  EXPECT_FALSE(linear_operation(computed));
  Variable& stack = graph.add_parameter("stack", at::ones({2, 3, 3}));
  EXPECT_FALSE(linear_operation(graph.add_operation("MatMul", "stacked", {&a, &stack}, {&graph.add_variable("d")})));
  EXPECT_FALSE(linear_operation(graph.add_operation("Relu", "relu", {&a}, {&graph.add_variable("e")})));
}

}  // namespace
}  // namespace espq
