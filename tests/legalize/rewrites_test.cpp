// Every rewrite for the chip against the float network as it was: the same function, and nothing left that is refused.
#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <limits>

#include "core/exec/executor.h"
#include "passes/legalize/legalize.h"
#include "tests/support/graph_builder.h"

namespace espq::test {
namespace {

struct RewriteCase {
  std::string_view name;
  void (*build)(GraphBuilder&);
  std::vector<std::string_view> changes;  ///< what the report has to say
  Width width = Width::Int8;
  std::string_view target = "esp32p4";
};

void PrintTo(const RewriteCase& rewrite, std::ostream* out) { *out << rewrite.name; }

Shape twice(const Shape& pads) {
  Shape both = pads;
  both.insert(both.end(), pads.begin(), pads.end());
  return both;
}

void grouped_conv(GraphBuilder& net, int64_t channels, int64_t results, int64_t groups, AttributeMap attributes = {}) {
  attributes["group"] = groups;
  Variable* x = net.input("x", {1, channels, 7, 6});
  net.outputs({net.op("Conv", "conv", {x, net.random({results, channels / groups, 3, 3}), net.random({results})},
                      std::move(attributes))});
}

void pool(GraphBuilder& net, std::string_view type, AttributeMap attributes) {
  net.outputs({net.op(type, "pool", {net.input("x", {1, 3, 11, 9})}, std::move(attributes))});
}

void resize(GraphBuilder& net, std::string_view mode, std::string_view coordinates, std::string_view nearest,
            const Shape& sizes) {
  Variable* x = net.input("x", {1, 3, 5, 4});
  net.outputs({net.op("Resize", "resize", {x, nullptr, nullptr, net.integers(sizes)},
                      {{"mode", std::string(mode)},
                       {"coordinate_transformation_mode", std::string(coordinates)},
                       {"nearest_mode", std::string(nearest)}})});
}

void prelu(GraphBuilder& net, const Shape& shape, const Shape& slopes) {
  net.outputs({net.op("PRelu", "prelu", {net.input("x", shape), net.random(slopes)})});
}

void of_three(GraphBuilder& net, std::string_view type) {
  net.outputs(
      {net.op(type, "many", {net.input("a", {1, 4, 5}), net.input("b", {1, 4, 5}), net.input("c", {1, 4, 1})})});
}

void gemm(GraphBuilder& net, const Shape& bias, AttributeMap attributes = {}) {
  const bool turned = attributes.count("transA") != 0;
  Variable* x = net.input("x", turned ? Shape{6, 4} : Shape{4, 6});
  net.outputs({net.op("Gemm", "gemm", {x, net.random({6, 5}), net.random(bias)}, std::move(attributes))});
}

void product(GraphBuilder& net, const Shape& left, const Shape& right) {
  net.outputs({net.op("MatMul", "product", {net.input("a", left), net.input("b", right)})});
}

const std::vector<RewriteCase>& cases() {
  const auto text = [](const char* value) { return Attribute(std::string(value)); };
  static const auto nearest = text("nearest");
  static const std::vector<RewriteCase> list = {
      {"groups_of_conv", [](GraphBuilder& net) { grouped_conv(net, 4, 6, 2); }, {"groups of Conv became one"}},
      {"depthwise_multiplier",
       [](GraphBuilder& net) { grouped_conv(net, 4, 8, 4); },
       {"channels of depthwise Conv repeated"}},
      {"conv_padding_outside",
       [](GraphBuilder& net) {
         grouped_conv(net, 4, 4, 1, {{"pads", Shape{3, 4, 0, 3}}});
       },
       {"padding of Conv became Pad"}},
      {"factors_of_several_samples",
       [](GraphBuilder& net) {
         Variable* x = net.input("x", {2, 4, 5, 3});
         net.outputs({net.op("Conv", "conv", {x, net.random({4, 1, 1, 1}), net.random({4})}, {{"group", int64_t{4}}})});
       },
       {"depthwise Conv of single elements became Mul and Add"}},
      {"conv_of_sequences",
       [](GraphBuilder& net) {
         Variable* x = net.input("x", {3, 4, 10});
         net.outputs({net.op("Conv", "conv", {x, net.random({6, 4, 3}), net.random({6})},
                             {{"pads", Shape{1, 0}}, {"strides", Shape{2}}})});
       },
       {"sequences of Conv became one picture"}},
      {"conv_of_samples",
       [](GraphBuilder& net) {
         Variable* x = net.input("x", {3, 4, 7, 6});
         net.outputs({net.op("Conv", "conv", {x, net.random({6, 4, 3, 2}), net.random({6})},
                             {{"pads", Shape{1, 0, 2, 1}}, {"strides", Shape{2, 1}}})});
       },
       {"samples of Conv became one picture"}},
      {"dilated_depthwise_conv_of_samples",
       [](GraphBuilder& net) {
         Variable* x = net.input("x", {2, 4, 5, 6});
         net.outputs({net.op("Conv", "conv", {x, net.random({4, 1, 3, 3}), net.random({4})},
                             {{"group", int64_t{4}}, {"pads", Shape{2, 2, 2, 2}}, {"dilations", Shape{2, 2}}})});
       },
       {"samples of Conv became one picture"}},
      {"pointwise_conv_of_samples_with_steps",
       [](GraphBuilder& net) {
         Variable* x = net.input("x", {2, 4, 5, 6});
         net.outputs({net.op("Conv", "conv", {x, net.random({6, 4, 1, 1})}, {{"strides", Shape{3, 2}}})});
       },
       {"samples of Conv became one picture"}},
      {"max_pool_ceil",
       [](GraphBuilder& net) {
         pool(net, "MaxPool", {{"kernel_shape", Shape{3, 2}}, {"strides", Shape{2, 2}}, {"ceil_mode", int64_t{1}}});
       },
       {"padding of MaxPool stated"}},
      {"max_pool_dilated",
       [](GraphBuilder& net) {
         pool(net, "MaxPool",
              {{"kernel_shape", Shape{3, 2}},
               {"dilations", Shape{2, 3}},
               {"pads", twice({1, 1})},
               {"strides", Shape{2, 1}}});
       },
       {"windows of MaxPool laid out"}},
      {"average_pool_without_padding",
       [](GraphBuilder& net) {
         pool(net, "AveragePool", {{"kernel_shape", Shape{3, 3}}, {"pads", twice({1, 1})}, {"strides", Shape{2, 1}}});
       },
       {"divisor of AveragePool corrected"}},
      {"average_pool_ceil",
       [](GraphBuilder& net) {
         pool(net, "AveragePool",
              {{"kernel_shape", Shape{3, 2}},
               {"strides", Shape{3, 2}},
               {"count_include_pad", int64_t{1}},
               {"ceil_mode", int64_t{1}}});
       },
       {"divisor of AveragePool corrected"}},
      {"average_pool_same",
       [](GraphBuilder& net) {
         pool(net, "AveragePool",
              {{"kernel_shape", Shape{3, 2}}, {"strides", Shape{2, 2}}, {"auto_pad", std::string("SAME_UPPER")}});
       },
       {"divisor of AveragePool corrected"}},
      {"global_max_pool", [](GraphBuilder& net) { pool(net, "GlobalMaxPool", {}); }, {"GlobalMaxPool became MaxPool"}},
      {"nearest_ceil",
       [](GraphBuilder& net) {
         resize(net, "nearest", "asymmetric", "ceil", {1, 3, 9, 7});
       },
       {"nearest Resize became Gather"}},
      {"nearest_half_pixel",
       [](GraphBuilder& net) {
         resize(net, "nearest", "half_pixel", "round_prefer_floor", {1, 3, 15, 12});
       },
       {"nearest Resize became Gather"}},
      {"linear_asymmetric",
       [](GraphBuilder& net) {
         resize(net, "linear", "asymmetric", "floor", {1, 3, 10, 8});
       },
       {"Resize became MatMul"}},
      {"cubic",
       [](GraphBuilder& net) {
         resize(net, "cubic", "half_pixel", "floor", {1, 3, 10, 8});
       },
       {"Resize became MatMul"}},
      {"negative_index",
       [](GraphBuilder& net) {
         net.outputs({net.op("Gather", "gather", {net.input("x", {1, 4, 5}), net.integers({-1, 0, -3})},
                             {{"axis", int64_t{-1}}})});
       },
       {"negative indices of Gather wrapped"}},
      {"negative_pads",
       [](GraphBuilder& net) {
         net.outputs({net.op("Pad", "pad", {net.input("x", {1, 4, 5}), net.integers({0, -1, 2, 0, 1, -2})})});
       },
       {"pads of Pad stated"}},
      {"pad_wrap",
       [](GraphBuilder& net) {
         net.outputs({net.op("Pad", "pad", {net.input("x", {1, 4, 5}), net.integers({0, 1, 2, 0, 0, 1})},
                             {{"mode", std::string("wrap")}})});
       },
       {"Pad became Gather"}},
      {"slice_from_far_in_front",
       [](GraphBuilder& net) {
         net.outputs({net.op("Slice", "slice",
                             {net.input("x", {1, 6, 5}), net.integers({-9}), net.integers({4}), net.integers({1})})});
       },
       {"range of Slice stated"}},
      {"slice_back_from_behind",
       [](GraphBuilder& net) {
         net.outputs({net.op("Slice", "slice",
                             {net.input("x", {1, 6, 5}), net.integers({9, 1}), net.integers({INT64_MIN, 9}),
                              net.integers({1, 2}), net.integers({-2, 3})})});
       },
       {"range of Slice stated"}},
      {"axes_from_the_end",
       [](GraphBuilder& net) {
         net.outputs({net.op("Unsqueeze", "unsqueeze", {net.input("x", {2, 3}), net.integers({-1, -3})})});
       },
       {"axes of Unsqueeze counted from the front"}},
      {"max_pool_short_input",
       [](GraphBuilder& net) {
         net.outputs({net.op("MaxPool", "pool", {net.input("x", {1, 3, 1, 2})},
                             {{"kernel_shape", Shape{5, 5}}, {"pads", twice({2, 2})}, {"strides", Shape{1, 1}}})});
       },
       {"windows of MaxPool laid out"}},
      {"average_pool_short_input",
       [](GraphBuilder& net) {
         net.outputs({net.op("AveragePool", "pool", {net.input("x", {1, 3, 1, 2})},
                             {{"kernel_shape", Shape{5, 5}},
                              {"pads", twice({2, 2})},
                              {"strides", Shape{1, 1}},
                              {"count_include_pad", int64_t{1}}})});
       },
       {"padding of AveragePool stated"}},
      {"conv_auto_pad",
       [](GraphBuilder& net) {
         grouped_conv(net, 4, 4, 1, {{"auto_pad", std::string("SAME_LOWER")}});
       },
       {"padding of Conv stated"}},
      {"conv_short_input",
       [](GraphBuilder& net) {
         net.outputs({net.op("Conv", "conv", {net.input("x", {1, 4, 2}), net.random({4, 4, 3})},
                             {{"pads", Shape{0, 1}}, {"strides", Shape{2}}})});
       },
       {"padding of Conv became Pad"}},
      {"split_without_sizes",
       [](GraphBuilder& net) {
         net.outputs(net.op_with_results(2, "Split", "split", {net.input("x", {1, 6, 5})}, {{"axis", int64_t{1}}}));
       },
       {"sizes of Split stated"}},
      {"reshape_zero",
       [](GraphBuilder& net) {
         net.outputs({net.op("Reshape", "reshape", {net.input("x", {1, 6, 4}), net.integers({0, -1})})});
       },
       {"shape of Reshape stated"}},
      {"transpose_without_order",
       [](GraphBuilder& net) {
         net.outputs({net.op("Transpose", "transpose", {net.input("x", {2, 3, 4})})});
       },
       {"order of Transpose stated"}},
      {"depth_to_space_blocks",
       [](GraphBuilder& net) {
         net.outputs({net.op("DepthToSpace", "blocks", {net.input("x", {1, 12, 3, 2})},
                             {{"blocksize", int64_t{2}}, {"mode", std::string("DCR")}})});
       },
       {"channels of DepthToSpace ordered"}},
      {"depth_to_space_behind_conv",
       [](GraphBuilder& net) {
         Variable* c = net.op("Relu", "relu", {net.conv("conv", net.input("x", {1, 3, 4, 4}), 12)});
         net.outputs(
             {net.op("DepthToSpace", "blocks", {c}, {{"blocksize", int64_t{2}}, {"mode", std::string("DCR")}})});
       },
       {"channels of DepthToSpace ordered"}},
      {"space_to_depth",
       [](GraphBuilder& net) {
         net.outputs({net.op("SpaceToDepth", "blocks", {net.input("x", {1, 3, 4, 6})}, {{"blocksize", int64_t{2}}})});
       },
       {"channels of SpaceToDepth ordered"}},
      {"expand",
       [](GraphBuilder& net) {
         net.outputs({net.op("Expand", "expand", {net.input("x", {3, 1, 4}), net.integers({2, 3, 5, 4})})});
       },
       {"Expand became Gather"}},
      {"expand_in_front_of_product",
       [](GraphBuilder& net) {
         Variable* x = net.input("x", {1, 4, 5, 5});
         Variable* gate = net.op("Expand", "expand", {net.input("gate", {1, 4, 1, 1}), net.integers({1, 4, 5, 5})});
         net.outputs({net.op("Mul", "product", {x, gate})});
       },
       {"Expand left to the broadcast of its readers"}},
      {"tile",
       [](GraphBuilder& net) {
         net.outputs({net.op("Tile", "tile", {net.input("x", {1, 3, 2}), net.integers({2, 1, 3})})});
       },
       {"Tile became Gather"}},
      {"sum", [](GraphBuilder& net) { of_three(net, "Sum"); }, {"Sum became Add"}},
      {"mean", [](GraphBuilder& net) { of_three(net, "Mean"); }, {"Mean became Add and Mul"}},
      {"max", [](GraphBuilder& net) { of_three(net, "Max"); }, {"Max became Sub, Relu and Add"}},
      {"min", [](GraphBuilder& net) { of_three(net, "Min"); }, {"Min became Sub, Relu and Sub"}},
      {"prelu_of_rows",
       [](GraphBuilder& net) {
         prelu(net, {1, 8}, {8});
       },
       {"PRelu brought to four dimensions"}},
      {"prelu_of_samples",
       [](GraphBuilder& net) {
         prelu(net, {2, 8}, {8});
       },
       {"PRelu of several samples turned"}},
      {"prelu_of_sequences",
       [](GraphBuilder& net) {
         prelu(net, {1, 4, 5}, {4, 1});
       },
       {"PRelu brought to four dimensions"}},
      {"prelu_one_slope",
       [](GraphBuilder& net) {
         prelu(net, {1, 4, 5, 3}, {1});
       },
       {"slopes of PRelu stated per channel"},
       Width::Int16},
      {"prelu_per_position",
       [](GraphBuilder& net) {
         prelu(net, {1, 4, 5, 3}, {4, 5, 3});
       },
       {"PRelu became Relu, Clip, Mul and Add"}},
      {"gemm_one_bias", [](GraphBuilder& net) { gemm(net, {1}); }, {"bias of Gemm stated per column"}},
      {"gemm_bias_matrix",
       [](GraphBuilder& net) {
         gemm(net, {4, 5});
       },
       {"bias of Gemm became Add"}},
      {"gemm_turned",
       [](GraphBuilder& net) {
         gemm(net, {5}, {{"transA", int64_t{1}}});
       },
       {"transA of Gemm became Transpose"}},
      {"matmul_vector",
       [](GraphBuilder& net) {
         net.outputs({net.op("MatMul", "product", {net.input("x", {1, 4, 6}), net.random({6})})});
       },
       {"vector of MatMul became a matrix"}},
      {"matmul_of_windows",
       [](GraphBuilder& net) {
         product(net, {1, 6, 1, 4, 5}, {1, 6, 1, 5, 3});
       },
       {"batches of MatMul merged"}},
      {"matmul_of_shared_windows",
       [](GraphBuilder& net) {
         product(net, {2, 3, 2, 4, 5}, {3, 1, 5, 3});
       },
       {"batches of MatMul merged", "Expand became Gather"}},
      {"matmul_of_constant_batches",
       [](GraphBuilder& net) {
         net.outputs({net.op("MatMul", "product", {net.input("a", {2, 3, 2, 1, 4, 5}), net.random({2, 1, 5, 3})})});
       },
       {"batches of MatMul merged"}},
      {"matmul_that_takes_turns",
       [](GraphBuilder& net) {
         net.outputs({net.op("MatMul", "product", {net.input("a", {2, 1, 2, 1, 4, 5}), net.random({3, 1, 2, 5, 3})})});
       },
       {"batches of MatMul merged", "Expand became Gather"}},
      {"layer_normalization_one_scale",
       [](GraphBuilder& net) {
         net.outputs(
             {net.op("LayerNormalization", "norm", {net.input("x", {2, 5, 6}), net.random({1}), net.random({6})})});
       },
       {"scale of LayerNormalization stated per element"}},
      {"layer_normalization_scale_per_row",
       [](GraphBuilder& net) {
         net.outputs({net.op("LayerNormalization", "norm",
                             {net.input("x", {1, 4, 4}), net.random({4, 1}), net.random({1, 4, 4})})});
       },
       {"LayerNormalization with Mul and Add behind"}},
      {"layer_normalization_of_pictures",
       [](GraphBuilder& net) {
         net.outputs({net.op("LayerNormalization", "norm", {net.input("x", {1, 3, 4, 5}), net.random({3, 1, 1})},
                             {{"axis", int64_t{1}}})});
       },
       {"scale of LayerNormalization stated per element"}},
      {"rms_normalization_computed_scale",
       [](GraphBuilder& net) {
         net.outputs({net.op("RMSNormalization", "norm", {net.input("x", {2, 3, 6}), net.input("scale", {3, 1})})});
       },
       {"RMSNormalization with Mul behind"}},
      {"rms_normalization_one_scale",
       [](GraphBuilder& net) {
         net.outputs({net.op("RMSNormalization", "norm", {net.input("x", {2, 3, 6}), net.random({1, 1})})});
       },
       {"scale of RMSNormalization stated per element"}},
      {"reverse_sequence_of_inner_axes",
       [](GraphBuilder& net) {
         net.outputs({net.op("ReverseSequence", "turn", {net.input("x", {2, 3, 5, 4}), net.integers({2, 5, 1})},
                             {{"batch_axis", int64_t{1}}, {"time_axis", int64_t{2}}})});
       },
       {"axes of ReverseSequence brought in front"}},
      {"reverse_sequence_axes_from_the_end",
       [](GraphBuilder& net) {
         net.outputs({net.op("ReverseSequence", "turn", {net.input("x", {2, 5, 4}), net.integers({2, 5})},
                             {{"batch_axis", int64_t{-3}}, {"time_axis", int64_t{-2}}})});
       },
       {"axes of ReverseSequence counted from the front"}},
      {"mean_of_all_axes",
       [](GraphBuilder& net) {
         net.outputs({net.op("ReduceMean", "mean", {net.input("x", {2, 3, 4})}, {{"keepdims", int64_t{0}}})});
       },
       {"ReduceMean keeps one axis"}},
      {"interleaved_axes",
       [](GraphBuilder& net) {
         net.outputs({net.op("ReduceL2", "norm", {net.input("x", {2, 3, 2, 3, 2}), net.integers({0, 2, 4})})});
       },
       {"ReduceL2 of neighbouring axes"}},
      {"sum_of_no_axis",
       [](GraphBuilder& net) {
         net.outputs({net.op("ReduceSum", "sum", {net.input("x", {2, 3})}, {{"noop_with_empty_axes", int64_t{1}}})});
       },
       {"ReduceSum of no axis became Identity"}},
      {"rnn",
       [](GraphBuilder& net) {
         net.outputs(net.op_with_results(2, "RNN", "cell",
                                         {net.input("x", {4, 2, 3}), net.random({2, 5, 3}), net.random({2, 5, 5}),
                                          net.random({2, 10}), nullptr, net.input("h", {2, 2, 5})},
                                         {{"hidden_size", int64_t{5}},
                                          {"direction", std::string("bidirectional")},
                                          {"activations", std::vector<std::string>{"Tanh", "Relu"}}}));
       },
       {"RNN written down step by step"}},
      {"rnn_batch_first",
       [](GraphBuilder& net) {
         net.outputs(net.op_with_results(2, "RNN", "cell",
                                         {net.input("x", {2, 4, 3}), net.random({1, 5, 3}), net.random({1, 5, 5})},
                                         {{"hidden_size", int64_t{5}},
                                          {"direction", std::string("reverse")},
                                          {"layout", int64_t{1}},
                                          {"clip", 0.5F}}));
       },
       {"RNN written down step by step"}},
      {"gru_reverse",
       [](GraphBuilder& net) {
         net.outputs(net.op_with_results(
             2, "GRU", "cell",
             {net.input("x", {5, 1, 3}), net.random({1, 12, 3}), net.random({1, 12, 4}), net.random({1, 24})},
             {{"hidden_size", int64_t{4}},
              {"linear_before_reset", int64_t{1}},
              {"direction", std::string("reverse")}}));
       },
       {"sequence of GRU turned"}},
      {"gru_reset_inside",
       [](GraphBuilder& net) {
         net.outputs(net.op_with_results(2, "GRU", "cell",
                                         {net.input("x", {4, 2, 3}), net.random({2, 12, 3}), net.random({2, 12, 4}),
                                          net.random({2, 24}), nullptr, net.input("h", {2, 2, 4})},
                                         {{"hidden_size", int64_t{4}}, {"direction", std::string("bidirectional")}}));
       },
       {"GRU written down step by step"}},
      {"gru_clipped",
       [](GraphBuilder& net) {
         net.outputs(net.op_with_results(
             2, "GRU", "cell",
             {net.input("x", {4, 1, 3}), net.random({1, 12, 3}), net.random({1, 12, 4}), net.random({1, 24})},
             {{"hidden_size", int64_t{4}}, {"linear_before_reset", int64_t{1}}, {"clip", 0.3F}}));
       },
       {"GRU written down step by step"}},
      {"lstm_with_peepholes",
       [](GraphBuilder& net) {
         net.outputs(net.op_with_results(
             3, "LSTM", "cell",
             {net.input("x", {4, 2, 3}), net.random({1, 16, 3}), net.random({1, 16, 4}), net.random({1, 32}), nullptr,
              net.input("h", {1, 2, 4}), net.input("c", {1, 2, 4}), net.random({1, 12})},
             {{"hidden_size", int64_t{4}}, {"clip", 0.5F}}));
       },
       {"LSTM written down step by step"}},
      {"gru_without_last_state",
       [](GraphBuilder& net) {
         net.outputs({net.op("GRU", "cell", {net.input("x", {5, 1, 3}), net.random({1, 12, 3}), net.random({1, 12, 4})},
                             {{"hidden_size", int64_t{4}}, {"linear_before_reset", int64_t{1}}})});
       },
       {"outputs of GRU completed"}},
  };
  return list;
}

Tensors run(const Graph& graph, const Dataset& data) {
  return Executor(graph, Precision::Float).run(data.inputs(graph, 0));
}

class Rewrites : public testing::TestWithParam<RewriteCase> {};

TEST_P(Rewrites, ComputeTheSameAndRun) {
  const RewriteCase& rewrite = GetParam();
  GraphBuilder net;
  rewrite.build(net);
  const Dataset data = net.data(1);
  const Tensors before = run(net.graph, data);
  for (Operation* operation : net.graph.operations()) operation->set_width(rewrite.width);
  const Deployment deployment{find_target(rewrite.target)};
  const PassReport report = legalize(net.graph, deployment);
  for (const std::string_view change : rewrite.changes) EXPECT_GT(report.times(change), 0) << to_text(report);
  for (const Refused& refused : refused_operations(net.graph, deployment, {}, {}))
    ADD_FAILURE() << refused.type << " '" << refused.name << "': " << refused.refusal.why;
  const Tensors after = run(net.graph, data);
  ASSERT_EQ(before.size(), after.size());
  for (size_t i = 0; i < before.size(); ++i) {
    // What has no axes has one on the chip.
    EXPECT_EQ(before[i].dim() ? before[i].sizes().vec() : Shape{1}, after[i].sizes().vec());
    // Sums in another order: some float32 roundings of the largest value.
    const double largest = before[i].abs().max().item<double>();
    EXPECT_LE((before[i].reshape_as(after[i]) - after[i]).abs().max().item<double>(), 2e-6 * largest);
  }
}

INSTANTIATE_TEST_SUITE_P(All, Rewrites, testing::ValuesIn(cases()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace espq::test
