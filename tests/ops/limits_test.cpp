#include "core/ops/limits.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/ops/operator.h"
#include "core/quant/target.h"

namespace espq {
namespace {

/// One operation on a graph input, with constants as further operands.
struct Single {
  Graph graph = {};
  Operation* operation = nullptr;

  Single(const std::string& type, const Shape& input, const Tensors& constants, AttributeMap attributes = {},
         const Shape& output = {}) {
    Variable& data = graph.add_variable("x");
    data.set_shape(input);
    std::vector<Variable*> operands{&data};
    for (const at::Tensor& constant : constants)
      operands.push_back(&graph.add_parameter("c" + std::to_string(operands.size()), constant));
    Variable& result = graph.add_variable("y");
    if (!output.empty()) result.set_shape(output);
    operation = &graph.add_operation(type, "op", operands, {&result}, std::move(attributes));
    normalize_attributes(*operation);
  }

  std::optional<Refusal> refusal(Width width = Width::Int8, const char* target = "esp32p4",
                                 RuntimeLevel level = RuntimeLevel::V3_3_9) const {
    return refuses(*operation, {find_target(target), level}, width);
  }

  void store(Variable& variable, std::vector<int> exponents) const {
    variable.set_storage(StorageFormat{at::kChar, std::move(exponents)});
  }
};

bool says(const std::optional<Refusal>& refusal, Refusal::Kind kind, std::string_view part) {
  return refusal && refusal->kind == kind && refusal->why.find(part) != std::string::npos && !refusal->remedy.empty();
}

TEST(Refuses, WidthsWithoutAKernel) {
  const Single erf("Erf", {1, 4}, {}), resize("Resize", {1, 4, 2, 2}, {}), relu("Relu", {1, 4}, {});
  EXPECT_TRUE(says(erf.refusal(), Refusal::Kind::Kernel, "3.3.9 has no int8 kernel"));
  EXPECT_FALSE(resize.refusal());
  EXPECT_TRUE(says(resize.refusal(Width::Int16), Refusal::Kind::Kernel, "int16"));
  EXPECT_TRUE(says(resize.refusal(Width::Float), Refusal::Kind::Kernel, "float"));
  for (const Width width : {Width::Float, Width::Int8, Width::Int16}) EXPECT_FALSE(relu.refusal(width));
}

TEST(Refuses, EightBitWeightsUnderSixteenBitActivationsDependOnTheLibrary) {
  const Single conv("Conv", {1, 2, 4, 4}, {at::ones({3, 2, 1, 1})}), relu("Relu", {1, 4}, {});
  const Single depthwise("Conv", {1, 2, 4, 4}, {at::ones({2, 1, 1, 1})}, {{"group", int64_t{2}}});
  EXPECT_TRUE(says(conv.refusal(Width::Int16Weights8), Refusal::Kind::Unwritable, "w8a16"));
  EXPECT_FALSE(conv.refusal(Width::Int16Weights8, "esp32p4", RuntimeLevel::Newer));
  EXPECT_TRUE(relu.refusal(Width::Int16Weights8, "esp32p4", RuntimeLevel::Newer));
  EXPECT_TRUE(takes_8bit_weights(*conv.operation));
  EXPECT_FALSE(takes_8bit_weights(*depthwise.operation));
  EXPECT_FALSE(takes_8bit_weights(*relu.operation));
}

TEST(Refuses, Convolutions) {
  const auto conv = [](const Shape& input, const Shape& weight, int64_t group) {
    return Single("Conv", input, {at::ones(weight)}, {{"group", group}}).refusal();
  };
  EXPECT_FALSE(conv({1, 4, 5, 5}, {6, 4, 3, 3}, 1));
  EXPECT_FALSE(conv({1, 4, 5}, {4, 1, 3}, 4));
  EXPECT_TRUE(says(conv({1, 4, 5, 5}, {4, 2, 3, 3}, 2), Refusal::Kind::Form, "groups"));
  EXPECT_TRUE(says(conv({1, 4, 5, 5}, {8, 1, 3, 3}, 4), Refusal::Kind::Form, "groups"));
  EXPECT_TRUE(says(conv({1, 4, 5, 5, 5}, {6, 4, 3, 3, 3}, 1), Refusal::Kind::Form, "spatial axes"));
}

TEST(Refuses, PoolsThatDilateOrRoundUp) {
  const auto pool = [](const Shape& input, AttributeMap attributes) {
    attributes.emplace("kernel_shape", Shape{2, 2});
    return Single("MaxPool", input, {}, std::move(attributes)).refusal();
  };
  const AttributeMap up{{"ceil_mode", int64_t{1}}, {"strides", Shape{2, 2}}};
  EXPECT_FALSE(pool({1, 2, 6, 6}, {}));
  EXPECT_FALSE(pool({1, 2, 6, 6}, up)) << "both ways give the same size";
  EXPECT_TRUE(says(pool({1, 2, 5, 6}, up), Refusal::Kind::Form, "ceil_mode"));
  EXPECT_TRUE(says(pool({1, 2, 6, 6}, {{"dilations", Shape{2, 1}}}), Refusal::Kind::Form, "dilated"));
}

TEST(Refuses, WhatAFileOfAGemmCannotSay) {
  const auto gemm = [](const at::Tensor& matrix, const AttributeMap& attributes, Width width) {
    return Single("Gemm", {2, 3}, {matrix}, attributes).refusal(width);
  };
  EXPECT_FALSE(gemm(at::ones({3, 4}), {}, Width::Int8));
  EXPECT_TRUE(says(gemm(at::ones({3, 4}), {{"alpha", 2.0f}}, Width::Int8), Refusal::Kind::Unwritable, "alpha"));
  EXPECT_TRUE(says(gemm(at::ones({2, 4}), {{"transA", int64_t{1}}}, Width::Int16), Refusal::Kind::Unwritable, "first"));
  EXPECT_TRUE(says(gemm(at::ones({3}), {}, Width::Int8), Refusal::Kind::Unwritable, "matrix"));
}

TEST(Refuses, LeftShiftsOfMulOnChipsWithVectorUnits) {
  Single product("Mul", {1, 4}, {at::ones({4})});
  EXPECT_FALSE(product.refusal()) << "before lowering there are no exponents";
  product.store(*product.operation->input(0), {-4});
  product.store(*product.operation->input(1), {-4});
  product.store(*product.operation->output(), {-8});
  EXPECT_FALSE(product.refusal());
  product.store(*product.operation->output(), {-9});
  EXPECT_TRUE(says(product.refusal(), Refusal::Kind::Form, "finer"));
  EXPECT_TRUE(product.refusal(Width::Int8, "esp32s3"));
  EXPECT_FALSE(product.refusal(Width::Int8, "c"));
}

TEST(Refuses, LogitsThatOverflowATableOfExponentials) {
  Single softmax("Softmax", {1, 4}, {});
  softmax.store(*softmax.operation->input(0), {-1});
  EXPECT_FALSE(softmax.refusal());
  softmax.store(*softmax.operation->input(0), {0});
  EXPECT_TRUE(says(softmax.refusal(), Refusal::Kind::Form, "logits"));
  EXPECT_FALSE(softmax.refusal(Width::Int16));
}

TEST(Refuses, RecurrentCells) {
  const Tensors gru{at::ones({1, 6, 3}), at::ones({1, 6, 2})};
  const auto cell = [&](const Shape& input, int64_t reset_first) {
    return Single("GRU", input, gru, {{"linear_before_reset", reset_first}}).refusal();
  };
  EXPECT_FALSE(cell({5, 1, 3}, 1));
  EXPECT_TRUE(says(cell({5, 2, 3}, 1), Refusal::Kind::Form, "sequence"));
  EXPECT_TRUE(says(cell({5, 1, 3}, 0), Refusal::Kind::Form, "linear_before_reset"));
}

TEST(Refusals, KernelsThatGiveCodesOnNeedOneExponent) {
  for (const int exponent : {-9, -8}) {
    Graph graph;
    Variable &x = graph.add_variable("x"), &y = graph.add_variable("y");
    x.set_shape(Shape{1, 8, 8, 4});
    x.set_storage(StorageFormat{at::kChar, {-9}});
    y.set_storage(StorageFormat{at::kChar, {exponent}});
    Operation& pool = graph.add_operation("MaxPool", "pool", {&x}, {&y}, {{"kernel_shape", Shape{2, 2}}});
    normalize_attributes(pool);
    pool.edit_chip().kernels = Width::Int8;
    const auto refusal = refuses(pool, {find_target("esp32p4")}, Width::Int8);
    EXPECT_EQ(refusal.has_value(), exponent != -9);
    if (refusal) {
      EXPECT_NE(refusal->why.find("exponents of operand and result differ"), std::string::npos);
    }
  }
}

TEST(Refusals, StatesOfACellAreOneRegister) {
  for (const int exponent : {-7, -3}) {
    Graph graph;
    std::vector<Variable*> values;
    for (const char* name : {"x", "y", "last"}) values.push_back(&graph.add_variable(name));
    values[0]->set_shape(Shape{5, 1, 3});
    values[1]->set_storage(StorageFormat{at::kChar, {-7}});
    values[2]->set_storage(StorageFormat{at::kChar, {exponent}});
    Variable &w = graph.add_parameter("w", at::ones({1, 6, 3})), &r = graph.add_parameter("r", at::ones({1, 6, 2}));
    Operation& cell = graph.add_operation("GRU", "cell", {values[0], &w, &r}, {values[1], values[2]},
                                          {{"hidden_size", int64_t{2}}, {"linear_before_reset", int64_t{1}}});
    normalize_attributes(cell);
    const auto refusal = refuses(cell, {find_target("esp32p4")}, Width::Int8);
    EXPECT_EQ(refusal.has_value(), exponent != -7);
    if (refusal) {
      EXPECT_NE(refusal->why.find("states of different exponents"), std::string::npos);
    }
  }
}

TEST(Shapes, AreThoseThatKernelsMeet) {
  Graph graph;
  Variable &x = graph.add_variable("x"), &y = graph.add_variable("y");
  EXPECT_FALSE(shape_at_kernel(&x));
  x.set_shape(Shape{1, 5, 6, 3});
  x.set_permutation({0, 2, 3, 1});
  EXPECT_EQ(*shape_at_kernel(&x), (Shape{1, 5, 6, 3}));
  Operation& pool = graph.add_operation("GlobalAveragePool", "pool", {&x}, {&y});
  EXPECT_EQ(*image_shape(pool, &x), (Shape{1, 5, 6, 3}));
  pool.edit_chip().kernels = Width::Int8;
  EXPECT_EQ(*image_shape(pool, &x), (Shape{1, 3, 5, 6}));
}

}  // namespace
}  // namespace espq
