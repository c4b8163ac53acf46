// What compare() says of layers whose cause is known, because the network was made for it.
#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <cmath>

#include "core/analysis/compare.h"
#include "core/analysis/comparison_report.h"
#include "passes/lowering/lower.h"
#include "tests/support/graph_builder.h"

namespace espq {
namespace {

using namespace test;
using testing::HasSubstr;
using testing::Not;

Dataset one_batch(const at::Tensor& x) { return Dataset({{{"x", x}}}); }

void set_exponents(GraphBuilder& net, const SlotQuant& slot, int exponent) {
  net.graph.scales().set_exponents(slot.scale, {exponent});
}

TensorError layer(const GraphBuilder& net, const at::Tensor& x, const char* name) {
  const Graph chip = lower(net.graph);
  for (const TensorError& error : compare({net.graph, Precision::Float}, {chip, Precision::Board}, one_batch(x)).layers)
    if (error.name == name) return error;
  ADD_FAILURE() << "no layer " << name;
  return {};
}

// x - 128 fits steps of 1, x does not.
TEST(Diagnosis, NamesAClippedOperand) {
  at::manual_seed(3);
  const at::Tensor x = at::rand({1, 4, 8, 8}) * 100 + 100;
  for (const int exponent : {0, 1}) {
    GraphBuilder net("esp32p4");
    net.exponent = exponent;
    Variable* input = net.input("x", {1, 4, 8, 8});
    net.outputs({net.quantized("Sub", "centred", {input, net.constant("middle", at::full({1}, 128.0f))})});
    const TensorError error = layer(net, x, "centred");
    if (exponent == 1) {
      EXPECT_NE(error.cause, Cause::Operands);
      continue;
    }
    EXPECT_EQ(error.cause, Cause::Operands) << error.explanation;
    ASSERT_TRUE(error.own->operand);
    EXPECT_EQ(error.own->operand->name, "x");
    EXPECT_FALSE(error.own->operand->constant);
    EXPECT_EQ(error.own->operand->needed_exponent, 1);
    EXPECT_DOUBLE_EQ(error.own->operand->clipped, x.gt(127.5).to(at::kDouble).mean().item<double>());
    EXPECT_THAT(error.explanation, HasSubstr("the operand 'x' is clipped"));
    EXPECT_THAT(error.advice, HasSubstr("another alignment"));
    EXPECT_THAT(error.advice, HasSubstr("16 bits for this layer"));
  }
}

// The operand is fine where it is written; the join reads it on a finer grid.
TEST(Diagnosis, SeesTheGridOnWhichTheLayerReads) {
  GraphBuilder net("esp32p4");
  Variable* x = net.input("x", {1, 4, 8, 8});
  Operation& conv = *net.quantized_conv("conv", x, 4)->producer();
  conv.input(1)->set_value(at::full({4, 4, 1, 1}, 4.0f));
  Operation& relu = *net.quantized("Abs", "size", {conv.output()})->producer();
  Operation& sub = *net.quantized("Sub", "sub", {relu.output(), net.constant("c", at::full({1}, 20.0f))})->producer();
  for (const SlotQuant& slot : {conv.output_quant()[0], relu.input_quant()[0], relu.output_quant()[0]})
    set_exponents(net, slot, -1);
  set_exponents(net, conv.input_quant()[1], 0);
  for (const SlotQuant& slot : {sub.input_quant()[0], sub.input_quant()[1], sub.output_quant()[0]})
    set_exponents(net, slot, -3);
  net.outputs({sub.output()});
  at::manual_seed(4);
  const at::Tensor values = at::rand({1, 4, 8, 8}) * 0.5 + 1;  // sums of 16 .. 24: 2^-3 holds 15.9
  const TensorError error = layer(net, values, "sub");
  EXPECT_EQ(error.cause, Cause::Operands) << error.explanation;
  ASSERT_TRUE(error.own->operand);
  EXPECT_EQ(error.own->operand->exponent, -3);
  EXPECT_EQ(error.own->operand->needed_exponent, -2);
}

TEST(Diagnosis, NamesAClippedConstant) {
  GraphBuilder net("esp32p4");
  Variable* x = net.input("x", {1, 4, 8, 8});
  Operation& product = *net.quantized("Mul", "product", {x, net.constant("factor", at::full({1}, 300.0f))})->producer();
  set_exponents(net, product.input_quant()[1], 0);
  set_exponents(net, product.output_quant()[0], 5);
  net.outputs({product.output()});
  at::manual_seed(5);
  const TensorError error = layer(net, at::randn({1, 4, 8, 8}).clamp(-3, 3), "product");
  EXPECT_EQ(error.cause, Cause::Operands) << error.explanation;
  ASSERT_TRUE(error.own->operand);
  EXPECT_TRUE(error.own->operand->constant);
  EXPECT_EQ(error.own->operand->name, "factor");
  EXPECT_EQ(error.own->operand->needed_exponent, 2);
  EXPECT_THAT(error.advice, HasSubstr("parameter_observer"));
}

TEST(Diagnosis, BlamesNoOperationThatOnlyMovesValues) {
  at::manual_seed(7);
  GraphBuilder net("esp32p4");
  Operation& conv = *net.quantized_conv("conv", net.input("x", {1, 8, 8, 8}), 4)->producer();
  Operation& pool =
      *net.quantized("MaxPool", "pool", {conv.output()},
                     {{"kernel_shape", std::vector<int64_t>{2, 2}}, {"strides", std::vector<int64_t>{2, 2}}})
           ->producer();
  for (const SlotQuant& slot : {conv.output_quant()[0], pool.input_quant()[0], pool.output_quant()[0]})
    set_exponents(net, slot, 0);
  net.outputs({pool.output()});
  const TensorError error = layer(net, at::randn({1, 8, 8, 8}), "pool");
  EXPECT_EQ(error.cause, Cause::None);
  EXPECT_EQ(error.carried_from, "conv");
  EXPECT_GT(error.own->noise_to_signal, 0);
}

// A division has no weights to train.
TEST(Diagnosis, AdvisesTrainingForWeightsOnly) {
  GraphBuilder net("esp32p4");
  Operation& division =
      *net.quantized("Div", "division", {net.input("x", {1, 64}), net.constant("by", at::full({1}, 3.3f))})->producer();
  set_exponents(net, division.input_quant()[0], -2);
  set_exponents(net, division.output_quant()[0], -6);
  net.outputs({division.output()});
  at::manual_seed(8);
  const TensorError error = layer(net, at::randn({1, 64}), "division");
  EXPECT_EQ(error.cause, Cause::Parameters) << error.explanation;
  EXPECT_THAT(error.advice, Not(HasSubstr("train")));
}

TEST(Diagnosis, Advises16BitsOnlyWhereTheyCanBeHad) {
  at::manual_seed(6);
  const at::Tensor values = at::randn({1, 8, 8, 8});
  for (const int bits : {8, 16}) {
    GraphBuilder net("esp32p4");
    Operation& conv = *net.quantized_conv("conv", net.input("x", {1, 8, 8, 8}), 4)->producer();
    conv.set_width(bits == 16 ? Width::Int16 : Width::Int8);
    for (size_t slot : {0, 1}) conv.edit_input_quant(slot).bits = bits;
    conv.edit_output_quant(0).bits = bits;
    set_exponents(net, conv.output_quant()[0], 2);
    net.outputs({conv.output()});
    const TensorError error = layer(net, values, "conv");
    EXPECT_EQ(error.cause, Cause::Resolution);
    EXPECT_THAT(error.advice, bits == 8 ? testing::Matcher<std::string>(HasSubstr("16 bits"))
                                        : testing::Matcher<std::string>(Not(HasSubstr("16 bits"))));
  }
  GraphBuilder net("esp32p4");  // the chip library resizes with 8 bits only
  Operation& resize =
      *net.quantized("Resize", "resize",
                     {net.input("x", {1, 8, 8, 8}), nullptr, net.constant("scales", at::tensor({1.f, 1.f, 2.f, 2.f}))},
                     {{"mode", std::string("nearest")},
                      {"coordinate_transformation_mode", std::string("asymmetric")},
                      {"nearest_mode", std::string("floor")}})
           ->producer();
  resize.edit_input_quant(2) = SlotQuant{};
  set_exponents(net, resize.output_quant()[0], 0);
  net.outputs({resize.output()});
  const TensorError error = layer(net, values, "resize");
  EXPECT_EQ(error.cause, Cause::Resolution) << error.explanation;
  EXPECT_THAT(error.advice, Not(HasSubstr("16 bits")));
}

}  // namespace
}  // namespace espq
