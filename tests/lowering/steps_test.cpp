#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/exec/executor.h"
#include "core/support/error.h"
#include "passes/lowering/lower.h"
#include "tests/support/graph_builder.h"

namespace espq {
namespace {

using namespace test;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Ints = std::vector<int64_t>;

TEST(FuseRelu, TakesTheNameAndGridOfTheRelu) {
  GraphBuilder q("esp32p4");
  Variable* conv = q.quantized_conv("conv", q.input("x", {1, 3, 4, 4}), 4);
  Operation& relu = *q.quantized("Relu", "y", {conv})->producer();
  relu.edit_output_quant(0) = q.slot(8, {-2});
  q.outputs({relu.output()});
  const Graph lowered = lower(q.graph);
  EXPECT_THAT(types(lowered), ElementsAre("Conv"));
  EXPECT_EQ(lowered.outputs()[0]->producer()->chip().fused_relu, true);
  EXPECT_EQ(lowered.outputs()[0]->name(), "y");
  EXPECT_THAT(lowered.outputs()[0]->storage()->exponents, ElementsAre(-2));
  EXPECT_EQ(lowered.find_variable("conv"), nullptr);
}

TEST(FuseRelu, KeepsTensorsThatSomebodyElseReads) {
  GraphBuilder q("esp32p4");
  Variable* conv = q.quantized_conv("conv", q.input("x", {1, 3, 4, 4}), 4);
  Variable* relu = q.quantized("Relu", "relu", {conv});
  q.outputs({q.quantized("Add", "y", {relu, conv})});
  EXPECT_THAT(types(lower(q.graph)), ElementsAre("Conv", "Relu", "Add"));

  GraphBuilder output("esp32p4");
  conv = output.quantized_conv("conv", output.input("x", {1, 3, 4, 4}), 4);
  relu = output.quantized("Relu", "relu", {conv});
  output.outputs({conv, relu});
  EXPECT_THAT(types(lower(output.graph)), ElementsAre("Conv", "Relu"));
  EXPECT_THAT(types(lower(output.graph, {}, {.fuse_over_graph_outputs = true})), ElementsAre("Conv"));
}

TEST(Conversions, OneNodePerReaderWhereFormatsDiffer) {
  GraphBuilder q("esp32p4");
  Variable* a = q.quantized("Tanh", "a", {q.input("x", {1, 8})});
  Operation& same = *q.quantized("Neg", "same", {a})->producer();
  Operation& coarser = *q.quantized("Neg", "coarser", {a})->producer();
  coarser.edit_input_quant(0) = q.slot(8, {-3});
  Operation& wider = *q.quantized("Neg", "wider", {a})->producer();
  wider.set_width(Width::Int16);
  wider.edit_input_quant(0) = q.slot(16, {-4});
  wider.edit_output_quant(0) = q.slot(16, {-4});
  Operation& real = *q.floating("Erf", "real", {a})->producer();
  Operation& back = *q.quantized("Neg", "back", {real.output()})->producer();
  q.outputs({same.output(), coarser.output(), wider.output(), back.output()});
  const Graph lowered = lower(q.graph);
  EXPECT_EQ(lowered.find_operation("same")->input(0)->name(), "a");
  const auto conversion = [&](const char* reader) { return lowered.find_operation(reader)->input(0)->producer(); };
  EXPECT_EQ(conversion("coarser")->type(), "RequantizeLinear");
  EXPECT_EQ(conversion("coarser")->chip().kernels, Width::Int8);
  EXPECT_FLOAT_EQ(conversion("coarser")->input(1)->value().item<float>(), 2.0f);
  EXPECT_THAT(conversion("coarser")->output()->storage()->exponents, ElementsAre(-3));
  EXPECT_EQ(conversion("wider")->type(), "RequantizeLinear");
  EXPECT_EQ(conversion("wider")->chip().kernels, Width::Int16);
  EXPECT_EQ(conversion("wider")->output()->storage()->dtype, at::kShort);
  EXPECT_EQ(conversion("real")->type(), "DequantizeLinear");
  EXPECT_EQ(conversion("real")->chip().kernels, Width::Float);
  EXPECT_FALSE(conversion("real")->output()->storage().has_value());
  EXPECT_EQ(conversion("back")->type(), "QuantizeLinear");
  EXPECT_EQ(lowered.find_operation("real")->chip().kernels, Width::Float);
}

TEST(Conversions, TinyScalesAreComparedExactly) {
  GraphBuilder q("esp32p4");
  Operation& a = *q.quantized("Tanh", "a", {q.input("x", {1, 8})})->producer();
  a.edit_output_quant(0) = q.slot(8, {-20});
  Operation& b = *q.quantized("Neg", "b", {a.output()})->producer();
  b.edit_input_quant(0) = q.slot(8, {-19});
  q.outputs({b.output()});
  EXPECT_THAT(types(lower(q.graph)), ElementsAre("Tanh", "RequantizeLinear", "Neg"));
  EXPECT_THAT(types(lower(q.graph, {}, {.absolute_requantize_threshold = true})), ElementsAre("Tanh", "Neg"));
}

TEST(Conversions, GraphInputsHaveTheFormatOfTheirFinestReader) {
  GraphBuilder q("esp32p4");
  Variable* x = q.input("x", {1, 8});
  Operation& first = *q.quantized("Tanh", "first", {x})->producer();
  Operation& second = *q.quantized("Neg", "second", {x})->producer();
  second.edit_input_quant(0) = q.slot(8, {-6});
  q.outputs({first.output(), second.output()});
  const Graph lowered = lower(q.graph);
  EXPECT_THAT(lowered.inputs()[0]->storage()->exponents, ElementsAre(-6));
  EXPECT_EQ(lowered.find_operation("first")->input(0)->producer()->type(), "RequantizeLinear");
  EXPECT_EQ(lower(q.graph, {}, {.one_format_per_graph_input = true}).operation_count(), 2u);
}

// Rounded numbers instead of its floats would cost a layer in float all that it is in float for.
TEST(Conversions, GraphInputsStayFloatForAReaderInFloat) {
  GraphBuilder q("esp32p4");
  Variable* x = q.input("x", {1, 8});
  Operation& integer = *q.quantized("Neg", "integer", {x})->producer();
  integer.edit_input_quant(0) = q.slot(8, {-6});
  Operation& real = *q.floating("Erf", "real", {x})->producer();
  q.outputs({integer.output(), real.output()});
  const Graph lowered = lower(q.graph);
  EXPECT_FALSE(lowered.inputs()[0]->storage().has_value());
  EXPECT_EQ(lowered.find_operation("real")->input(0), lowered.inputs()[0]);
  const Operation* conversion = lowered.find_operation("integer")->input(0)->producer();
  EXPECT_EQ(conversion->type(), "QuantizeLinear");
  EXPECT_THAT(conversion->output()->storage()->exponents, ElementsAre(-6));
  const at::Tensor values = at::linspace(-1.5, 1.5, 8).view({1, 8});
  const Tensors found = Executor(lowered, Precision::Board)
                            .run({values}, {lowered.outputs()[1], lowered.find_operation("integer")->input(0)});
  EXPECT_TRUE(at::equal(found[0], at::erf(values)));
  EXPECT_TRUE(at::equal(found[1].to(at::kFloat), at::round(values * 64)));
  EXPECT_EQ(lower(q.graph, {}, {.one_format_per_graph_input = true}).operation_count(), 2u);
}

TEST(Integers, PerChannelFiltersAndBiases) {
  GraphBuilder q("esp32p4");
  Operation& conv = *q.quantized_conv("conv", q.input("x", {1, 1, 2, 2}), 2)->producer();
  conv.input(1)->set_value(at::tensor({0.5f, -0.5f}).reshape({2, 1, 1, 1}));
  q.graph.append_input(conv, q.constant("b", at::tensor({1.0f, -3.0f})));
  conv.edit_input_quant(1) = q.slot(8, {-7, -3}, 0);
  conv.edit_input_quant(2) = q.slot(32, {-11, -7}, 0);
  q.outputs({conv.output()});
  const Graph lowered = lower(q.graph);
  const Operation* result = lowered.operations()[0];
  EXPECT_TRUE(at::equal(result->input(1)->value(), at::tensor({64, -4}, at::kChar).reshape({2, 1, 1, 1})));
  EXPECT_TRUE(at::equal(result->input(2)->value(), at::tensor({2048, -384}, at::kInt)));
  EXPECT_THAT(result->input(2)->storage()->exponents, ElementsAre(-11, -7));
  EXPECT_TRUE(conv.input(1)->value().is_floating_point()) << "the quantized graph changed";
}

TEST(Integers, SaturatedBiasesStayPositiveUnlessTheDefectIsWanted) {
  for (const auto& [bits, exact, wrapped] : std::vector<std::tuple<int, int64_t, int64_t>>{
           {20, 524287, 524287},
           {32, 2147483647, -2147483648LL},
           {40, (int64_t{1} << 39) - 1, int64_t{1} << 39},
           {64, std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()}}) {
    GraphBuilder q("esp32p4");
    Operation& conv = *q.quantized_conv("conv", q.input("x", {1, 1, 2, 2}), 2)->producer();
    q.graph.append_input(conv, q.constant("b", at::tensor({1e30f, -1e30f})));
    conv.edit_input_quant(2) = q.slot(bits, {-8});
    q.outputs({conv.output()});
    Quirks quirks;
    const auto bias = [&](int index) {
      return lower(q.graph, {}, quirks).find_variable("b")->value()[index].item<int64_t>();
    };
    EXPECT_EQ(bias(0), exact) << bits;
    EXPECT_EQ(bias(1), -exact - 1) << bits;
    quirks.bias_overflow_wraps = true;
    EXPECT_EQ(bias(0), wrapped) << bits;
    EXPECT_EQ(bias(1), -exact - 1) << bits;
  }
}

TEST(Gemm, FilterIsRowsOfOutputChannels) {
  for (int64_t transposed : {0, 1}) {
    GraphBuilder q("esp32p4");
    const at::Tensor weights = at::arange(6, at::kFloat).reshape({2, 3}) / 16;  // [N, K]
    Variable* w = q.constant("w", transposed ? weights : weights.t().contiguous());
    Operation& gemm = *q.quantized("Gemm", "y", {q.input("x", {1, 3}), w}, {{"transB", transposed}})->producer();
    q.outputs({gemm.output()});
    const Graph lowered = lower(q.graph);
    EXPECT_EQ(*lowered.find_variable("w")->shape(), (Shape{2, 3}));
    EXPECT_TRUE(at::equal(lowered.find_variable("w")->value(), at::arange(6, at::kChar).reshape({2, 3})));
    EXPECT_EQ(lowered.outputs()[0]->producer()->int_attribute("transB"), 0);
    gemm.set_attribute("alpha", 2.0f);
    EXPECT_THROW(lower(q.graph), UserError);
  }
}

/// Memory order that the kernels expect of a right operand [.., C, N], written down from the index formula.
at::Tensor packed(const at::Tensor& matrices, int64_t lanes) {
  const int64_t channels = matrices.size(-2), columns = matrices.size(-1);
  const int64_t aligned = lanes ? columns / lanes * lanes : 0;
  at::Tensor result = at::empty_like(matrices, at::MemoryFormat::Contiguous);
  const at::Tensor from = matrices.contiguous().reshape({-1, channels, columns}), to = result.view({from.size(0), -1});
  for (int64_t batch = 0; batch < from.size(0); ++batch)
    for (int64_t n = 0; n < columns; ++n)
      for (int64_t c = 0; c < channels; ++c) {
        const int64_t at = n < aligned ? (n / lanes * channels + c) * lanes + n % lanes
                                       : aligned * channels + (n - aligned) * channels + c;
        to[batch][at] = from[batch][c][n];
      }
  return result;
}

TEST(MatMul, ComputedOperandsArePackedForTheOldRuntime) {
  for (const char* target : {"esp32p4", "c"})
    for (int64_t columns : {16, 32, 5, 21}) {
      GraphBuilder q(target);
      Variable* a = q.input("a", {2, 3, 4});
      Variable* b = q.input("b", {2, 4, columns});
      q.outputs({q.quantized("MatMul", "y", {a, b})});
      const Graph lowered = lower(q.graph);
      const Operation& matmul = *lowered.outputs()[0]->producer();
      EXPECT_FALSE(matmul.has("input1_layout"));
      EXPECT_EQ(*matmul.input(1)->shape(), (Shape{2, 4, columns}));
      const at::Tensor value = at::randint(-100, 100, {2, 4, columns}).to(at::kChar);
      const NamedTensors result =
          Executor(lowered, Precision::Board)
              .run({{"a", at::zeros({2, 3, 4}, at::kChar)}, {"b", value}}, {matmul.input(1)->name()});
      EXPECT_TRUE(at::equal(result.begin()->second, packed(value, q.graph.target()->block(8)))) << target << columns;

      LowerOptions options;
      options.runtime_level = RuntimeLevel::Newer;
      const Graph newer = lower(q.graph, options);
      EXPECT_EQ(newer.operation_count(), 1u);
      EXPECT_EQ(newer.operations()[0]->string_attribute("input1_layout"), "native_kn");
    }
}

TEST(MatMul, ConstantOperandsKeepTheirOrder) {
  GraphBuilder q("esp32p4");
  const at::Tensor weights = at::arange(12, at::kFloat).reshape({4, 3}) / 16;
  q.outputs({q.quantized("MatMul", "y", {q.input("x", {2, 4}), q.constant("w", weights)})});
  const Graph lowered = lower(q.graph);
  EXPECT_TRUE(at::equal(lowered.find_variable("w")->value(), at::arange(12, at::kChar).reshape({4, 3})));
  EXPECT_FALSE(lowered.operations()[0]->has("input1_layout"));
  EXPECT_EQ(lower(q.graph, {.runtime_level = RuntimeLevel::Newer}).operations()[0]->string_attribute("input1_layout"),
            "packed");
}

TEST(Tables, EqualTablesAreShared) {
  GraphBuilder q("esp32p4");
  Variable* x = q.input("x", {1, 8});
  Variable* a = q.quantized("Tanh", "a", {x});
  Variable* b = q.quantized("Tanh", "b", {a});
  Operation& c = *q.quantized("Tanh", "c", {b})->producer();
  c.edit_output_quant(0) = q.slot(8, {-7});
  q.outputs({c.output()});
  const Graph lowered = lower(q.graph);
  EXPECT_EQ(lowered.find_operation("a")->chip().table->name(), "Tanh_lut_0");
  EXPECT_EQ(lowered.find_operation("b")->chip().table->name(), "Tanh_lut_0");
  EXPECT_EQ(lowered.find_operation("c")->chip().table->name(), "Tanh_lut_1");
  const Variable* table = lowered.find_variable("Tanh_lut_1");
  ASSERT_EQ(*table->shape(), (Shape{256}));
  EXPECT_EQ(table->dtype(), at::kChar);
  for (int code : {-128, -16, 0, 3, 127})
    EXPECT_EQ(table->value()[code + 128].item<int>(), std::lround(std::tanh(code / 16.0) * 128 - (code == 127 ? 1 : 0)))
        << code;
}

TEST(Tables, BoundsAndSlopesWithOneElement) {
  GraphBuilder q("esp32p4");
  Variable* x = q.input("x", {1, 4, 2, 2});
  Operation& clip =
      *q.quantized("Clip", "clip",
                   {x, q.constant("low", at::scalar_tensor(-0.5)), q.constant("high", at::scalar_tensor(2.0))})
           ->producer();
  Operation& one =
      *q.quantized("PRelu", "one", {clip.output(), q.constant("s1", at::full({1, 1, 1}, 0.25))})->producer();
  Operation& many =
      *q.quantized("PRelu", "many", {one.output(), q.constant("s4", at::full({4, 1, 1}, 0.25))})->producer();
  q.outputs({many.output()});
  const Graph lowered = lower(q.graph);
  EXPECT_NE(lowered.find_operation("clip")->chip().table, nullptr);
  EXPECT_NE(lowered.find_operation("one")->chip().table, nullptr);
  EXPECT_EQ(lowered.find_operation("many")->chip().table, nullptr);
  const at::Tensor table = lowered.find_variable("Clip_lut_0")->value();
  EXPECT_EQ(table[0].item<int>(), -8);
  EXPECT_EQ(table[255].item<int>(), 32);
  EXPECT_EQ(table[128 + 5].item<int>(), 5);
}

TEST(Consistency, WarnsAboutShiftsThatTheChipCannotDo) {
  GraphBuilder q("esp32p4");
  Operation& conv = *q.quantized_conv("conv", q.input("x", {1, 3, 2, 2}), 4)->producer();
  conv.edit_output_quant(0) = q.slot(8, {-12});
  q.outputs({conv.output()});
  Report report;
  lower(q.graph, {}, {}, &report);
  ASSERT_EQ(report.warnings().size(), 1u);
  EXPECT_THAT(report.warnings()[0], HasSubstr("'conv'"));
  report = {};
  q.graph.set_target(&find_target("c"));
  lower(q.graph, {}, {}, &report);
  EXPECT_TRUE(report.warnings().empty());
}

TEST(Consistency, NamesOperatorsThatTheRuntimeLacks) {
  GraphBuilder q("esp32p4");
  q.outputs({q.floating("Erf", "y", {q.input("x", {1, 3})})});
  Report report;
  lower(q.graph, {}, {}, &report);
  ASSERT_EQ(report.warnings().size(), 1u);
  EXPECT_THAT(report.warnings()[0], HasSubstr("'y'"));
}

TEST(SharedParameters, EveryReaderRoundsItsOwnCopy) {
  GraphBuilder q("esp32p4");
  Variable* shared = q.constant("k", at::full({1, 8}, 1.0));
  Operation& a = *q.quantized("Add", "a", {q.input("x", {1, 8}), shared})->producer();
  Operation& b = *q.quantized("Mul", "b", {a.output(), shared})->producer();
  b.edit_input_quant(1) = q.slot(8, {-6});
  q.outputs({b.output()});
  const Graph lowered = lower(q.graph);
  EXPECT_EQ(lowered.find_operation("a")->input(1)->value()[0][0].item<int>(), 16);
  EXPECT_EQ(lowered.find_operation("b")->input(1)->value()[0][0].item<int>(), 64);
}

}  // namespace
}  // namespace espq
