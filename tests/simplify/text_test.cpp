// Whole networks as the simplifier leaves them, written down from the operators' definitions: which operations remain,
// whose names they carry, what they read and which shapes flow between them.
#include <gtest/gtest.h>

#include "passes/simplify/simplify.h"
#include "tests/simplify/same_function.h"
#include "tests/support/graph_builder.h"

namespace espq {
namespace {

using namespace test;

void expect_text(GraphBuilder& net, const char* expected) {
  const Graph before = net.graph.clone();
  simplify(net.graph);
  EXPECT_EQ(to_text(net.graph), expected);
  expect_same_function(before, net.graph);
}

TEST(SimplifiedText, Classifier) {
  GraphBuilder net;
  Variable* x = net.conv("stem", net.input({1, 3, 8, 8}), 8);
  x = net.op("BatchNormalization", "normal",
             {x, net.random({8}), net.random({8}), net.random({8}), net.uniform("variance", {8}, 0.5, 1.5)});
  x = net.op("Mul", "swish", {x, net.op("Sigmoid", {net.op("Identity", {x})})});
  x = net.op("Flatten", "row", {net.op("GlobalAveragePool", "pool", {x})});
  x = net.op("Add", "shifted", {net.op("MatMul", "head", {x, net.random("w", {8, 5})}), net.random("b", {5})});
  net.output(net.op("Log", "score", {net.op("Softmax", {x}, {{"axis", int64_t{-1}}})}));
  expect_text(net, R"(graph 'test' (%x[1x3x8x8])
  %normal[1x8x8x8] = Conv 'stem' (%x[1x3x8x8], %stem.weight[8x3x3x3], %stem.bias[8]) {auto_pad='NOTSET', group=1, kernel_shape=[3, 3], pads=[1, 1, 1, 1]}
  %swish[1x8x8x8] = Swish 'swish' (%normal[1x8x8x8]) {}
  %pool[1x8x1x1] = GlobalAveragePool 'pool' (%swish[1x8x8x8]) {}
  %row[1x8] = Flatten 'row' (%pool[1x8x1x1]) {axis=1}
  %shifted[1x5] = Gemm 'head' (%row[1x8], %w[8x5], %b[5]) {alpha=1, beta=1, transA=0, transB=0}
  %score[1x5] = LogSoftmax 'score' (%shifted[1x5]) {axis=-1}
return %score[1x5]
)");
}

TEST(SimplifiedText, ClampsAndShapes) {
  GraphBuilder net;
  Variable* x = net.op("Max", "max", {net.input({2, 3, 4, 5}), net.scalar(0.5)});
  x = net.op("Min", "min", {net.scalar(3), x});
  x = net.op("Reshape", "first", {x, net.integers({6, 20})});
  x = net.op("Reshape", "second", {x, net.integers("two_rows", {2, -1})});
  net.output(net.op("Neg", "negative", {net.op("Cast", {x}, {{"to", int64_t{1}}})}));
  expect_text(net, R"(graph 'test' (%x[2x3x4x5])
  %min[2x3x4x5] = Clip 'min' (%x[2x3x4x5], %min_low[], %min_high[]) {}
  %second[2x60] = Reshape 'second' (%min[2x3x4x5], %two_rows[2]) {allowzero=0}
  %negative[2x60] = Neg 'negative' (%second[2x60]) {}
return %negative[2x60]
)");
}

}  // namespace
}  // namespace espq
