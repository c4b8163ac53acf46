// Whole chip graphs, written down from the rules of the file format: layouts, grids, what is inserted between them, and
// the kernels that run.
#include <gtest/gtest.h>

#include "passes/lowering/lower.h"
#include "tests/support/graph_builder.h"

namespace espq {
namespace {

using namespace test;

TEST(LoweredText, LayoutsGridsAndTables) {
  GraphBuilder q("esp32p4");
  Variable* relu = q.quantized("Relu", "relu", {q.quantized_conv("conv", q.input({1, 3, 4, 5}), 4)});
  Variable* sigmoid = q.quantized("Sigmoid", "sigmoid", {relu});
  sigmoid->producer()->edit_input_quant(0) = q.slot(8, {-3});
  q.output(q.quantized("Flatten", "flat", {sigmoid}));
  EXPECT_EQ(to_text(lower(q.graph)), R"(chip graph 'test' for esp32p4 (%x[1x4x5x3]<0231>:Char@-4)
  %relu[1x4x5x4]<0231>:Char@-4 = Conv 'conv' (%x[1x4x5x3]<0231>:Char@-4, %conv.weight[4x3x1x1]:Char@-4) {auto_pad='NOTSET', group=1, kernel_shape=[1, 1], pads=[0, 0, 0, 0]} int8 relu
  %variable_1[1x4x5x4]<0231>:Char@-3 = RequantizeLinear 'operation_1' (%relu[1x4x5x4]<0231>:Char@-4, %variable_2[], %variable_3[]) {} int8
  %sigmoid[1x4x5x4]<0231>:Char@-4 = Sigmoid 'sigmoid' (%variable_1[1x4x5x4]<0231>:Char@-3) {} int8 table %Sigmoid_lut_0[256]:Char@-4
  %variable_0[1x4x4x5]:Char@-4 = Transpose 'operation_0' (%sigmoid[1x4x5x4]<0231>:Char@-4) {perm=[0, 3, 1, 2]} int8
  %flat[1x80]:Char@-4 = Flatten 'flat' (%variable_0[1x4x4x5]:Char@-4) {axis=1} int8
return %flat[1x80]:Char@-4
)");
}

TEST(LoweredText, FloatsBetweenIntegers) {
  GraphBuilder q("esp32s3");
  Variable* product = q.quantized("Gemm", "gemm", {q.input({2, 6}), q.random("w", {6, 3})});
  q.output(q.quantized("Tanh", "tanh", {q.floating("Erf", "erf", {product})}));
  EXPECT_EQ(to_text(lower(q.graph)), R"(chip graph 'test' for esp32s3 (%x[2x6]:Char@-4)
  %gemm[2x3]:Char@-4 = Gemm 'gemm' (%x[2x6]:Char@-4, %w[3x6]:Char@-4) {alpha=1, beta=1, transA=0, transB=0} int8 linear
  %variable_3[2x3] = DequantizeLinear 'operation_1' (%gemm[2x3]:Char@-4, %variable_4[], %variable_5[]) {} float
  %erf[2x3] = Erf 'erf' (%variable_3[2x3]) {} float
  %variable_0[2x3]:Char@-4 = QuantizeLinear 'operation_0' (%erf[2x3], %variable_1[], %variable_2[]) {} int8
  %tanh[2x3]:Char@-4 = Tanh 'tanh' (%variable_0[2x3]:Char@-4) {} int8 table %Tanh_lut_0[256]:Char@-4
return %tanh[2x3]:Char@-4
)");
}

}  // namespace
}  // namespace espq
