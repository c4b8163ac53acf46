#include <gmock/gmock.h>

#include "passes/simplify/decompose_conv_transpose.h"
#include "tests/simplify/same_function.h"
#include "tests/support/graph_builder.h"

namespace espq {
namespace {

using namespace test;
struct Case {
  std::string name;
  Shape input, weight;
  AttributeMap attributes;
  bool bias = false;
};

void PrintTo(const Case& value, std::ostream* stream) { *stream << value.name; }

class DecomposeConvTranspose : public testing::TestWithParam<Case> {};

/// The float kernel of ConvTranspose is LibTorch's conv_transpose (checked against ONNX's own test data elsewhere).
TEST_P(DecomposeConvTranspose, ComputesTheSame) {
  const Case& test = GetParam();
  GraphBuilder net;
  const auto group_attribute = test.attributes.find("group");
  const int64_t group = group_attribute == test.attributes.end() ? 1 : std::get<int64_t>(group_attribute->second);
  std::vector<Variable*> operands{net.input(test.input), net.random(test.weight)};
  if (test.bias) operands.push_back(net.random({test.weight[1] * group}));
  net.output(net.op("ConvTranspose", "up", operands, test.attributes));
  const Graph before = net.graph.clone();
  EXPECT_EQ(decompose_conv_transpose(net.graph).total(), 1);
  for (const Operation* operation : net.graph.operations()) {
    EXPECT_NE(operation->type(), "ConvTranspose");
    if (operation->type() != "Conv") continue;
    for (const int64_t pad : operation->ints_attribute("pads")) EXPECT_GE(pad, 0);
  }
  const auto predicted = net.graph.find_operation("up")->input(0)->shape();
  expect_same_function(before, net.graph);
  infer_shapes(net.graph, zero_inputs(net.graph));
  EXPECT_EQ(net.graph.find_operation("up")->input(0)->shape(), predicted);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, DecomposeConvTranspose,
    testing::Values(
        Case{"plain", {1, 3, 5, 4}, {3, 4, 3, 3}, {}, true},
        Case{"stride", {2, 3, 5, 4}, {3, 4, 3, 2}, {{"strides", Shape{2, 3}}}},
        Case{"one_stride_only", {1, 3, 5, 4}, {3, 4, 3, 2}, {{"strides", Shape{1, 2}}}},
        Case{"pads", {1, 3, 5, 4}, {3, 4, 3, 4}, {{"strides", Shape{2, 2}}, {"pads", Shape{1, 0, 2, 3}}}},
        Case{"output_padding",
             {1, 3, 5, 4},
             {3, 4, 3, 3},
             {{"strides", Shape{2, 2}}, {"pads", Shape{1, 1, 1, 1}}, {"output_padding", Shape{1, 1}}}},
        Case{"output_padding_with_dilation_and_stride_1",
             {1, 3, 5, 4},
             {3, 4, 3, 3},
             {{"dilations", Shape{2, 2}}, {"output_padding", Shape{1, 0}}},
             true},
        Case{"dilation",
             {1, 3, 5, 4},
             {3, 4, 3, 3},
             {{"strides", Shape{2, 2}}, {"dilations", Shape{2, 3}}, {"pads", Shape{1, 2, 3, 4}}}},
        Case{"groups", {1, 4, 5, 4}, {4, 3, 3, 3}, {{"group", int64_t{2}}, {"strides", Shape{2, 2}}}, true},
        Case{"depthwise", {1, 4, 5, 4}, {4, 1, 2, 2}, {{"group", int64_t{4}}, {"strides", Shape{2, 2}}}, true},
        Case{"crop_both_sides",
             {1, 3, 6, 6},
             {3, 4, 2, 2},
             {{"strides", Shape{2, 2}}, {"pads", Shape{2, 0, 3, 1}}},
             true},
        Case{"crop_stride_1", {1, 3, 6, 6}, {3, 4, 1, 1}, {{"pads", Shape{1, 1, 0, 2}}}},
        Case{"same_upper", {1, 3, 5, 4}, {3, 4, 4, 3}, {{"auto_pad", "SAME_UPPER"}, {"strides", Shape{3, 2}}}},
        Case{"same_lower", {1, 3, 5, 4}, {3, 4, 4, 3}, {{"auto_pad", "SAME_LOWER"}, {"strides", Shape{3, 2}}}},
        Case{"valid", {1, 3, 5, 4}, {3, 4, 4, 3}, {{"auto_pad", "VALID"}, {"strides", Shape{3, 2}}}},
        Case{"output_shape",
             {1, 3, 5, 4},
             {3, 4, 3, 3},
             {{"output_shape", Shape{10, 8}}, {"strides", Shape{3, 2}}, {"output_padding", Shape{1, 1}}}},
        Case{"one_dimension", {2, 3, 9}, {3, 4, 5}, {{"strides", Shape{2}}, {"pads", Shape{2, 1}}}, true},
        Case{"three_dimensions",
             {1, 2, 3, 4, 3},
             {2, 3, 3, 2, 3},
             {{"strides", Shape{2, 1, 2}}, {"pads", Shape{1, 0, 1, 0, 1, 1}}}}),
    [](const auto& info) { return info.param.name; });

TEST(DecomposeConvTransposeOrder, ConvKeepsItsPlaceInsertZerosGoesToTheEnd) {
  GraphBuilder net;
  Variable* up = net.op("ConvTranspose", "up", {net.input({1, 3, 5, 4}), net.random("w", {3, 4, 3, 3})},
                        {{"strides", Shape{2, 2}}});
  net.output(net.op("Relu", "r", {up}));
  decompose_conv_transpose(net.graph);
  const auto operations = net.graph.operations();
  ASSERT_EQ(operations.size(), 3u);
  EXPECT_EQ(operations[0]->name(), "up");
  EXPECT_EQ(operations[0]->input(1)->name(), "w");
  EXPECT_EQ(operations[1]->name(), "r");
  EXPECT_EQ(operations[2]->type(), "InsertZeros");
}

TEST(DecomposeConvTransposeOrder, DynamicFilterStays) {
  GraphBuilder net;
  net.output(net.op("ConvTranspose", {net.input({1, 3, 5, 4}), net.input("w", {3, 4, 3, 3})}));
  EXPECT_FALSE(decompose_conv_transpose(net.graph).changed());
}

}  // namespace
}  // namespace espq
