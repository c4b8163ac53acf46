// Exact kernels of Conv, Gemm and MatMul against a scalar model that adds one product after the other.
#include <gtest/gtest.h>

#include <random>

#include "core/ops/board/accumulator.h"
#include "core/ops/gemm.h"
#include "core/ops/operator.h"
#include "core/support/error.h"

using namespace espq;

namespace {

using Ints = std::vector<int64_t>;

struct Layer {
  std::string type = "Conv";
  std::string target = "esp32p4";
  int bits = 8, e_in = -5, e_out = -3;
  std::vector<int> e_weight = {-6};
  AttributeMap attributes = {};
  ChipFacts chip = {};
  at::Tensor weight = {}, bias = {};  ///< codes
};

/// What one output channel of the chip makes of its products, in order.
int64_t add_up(const Layer& layer, int64_t channel, int64_t channels, bool depthwise,
               const std::vector<int64_t>& products) {
  const Target& target = find_target(layer.target);
  const int block = layer.bits == 8 ? 16 : 8;
  const bool vector = target.vector_unit && (depthwise || channel < channels / block * block);
  int lane = 64;
  if (layer.bits == 8) lane = !target.vector_unit ? 32 : vector ? (target.saturating_20bit ? 20 : 32) : 40;
  if (layer.bits == 16 && target.saturating_20bit) lane = 40;
  const __int128 high = (static_cast<__int128>(1) << (lane - 1)) - 1;
  const auto wrap = [&](__int128 value) {
    const __int128 span = static_cast<__int128>(1) << lane;
    value = (value + high + 1) % span;
    return (value < 0 ? value + span : value) - high - 1;
  };
  __int128 sum = layer.bias.defined() ? wrap(static_cast<int64_t>(layer.bias[channel].item<double>())) : 0;
  for (int64_t product : products) {
    sum += product;
    sum = !target.vector_unit ? wrap(sum) : std::clamp<__int128>(sum, -high - 1, high);
  }
  return static_cast<int64_t>(sum);
}

float to_code(const Layer& layer, int64_t channel, int64_t sum) {
  const int e_weight = layer.e_weight.size() == 1 ? layer.e_weight[0] : layer.e_weight[channel];
  const long double value = std::ldexp(static_cast<long double>(sum), layer.e_in + e_weight - layer.e_out);
  long double rounded =
      find_target(layer.target).rounding == Rounding::HalfUp ? std::floor(value + 0.5L) : std::nearbyint(value);
  if (layer.chip.fused_relu.value_or(false)) rounded = std::max(rounded, 0.0L);
  return static_cast<float>(std::clamp<long double>(rounded, quant_min(layer.bits), quant_max(layer.bits)));
}

int64_t at_code(const at::Tensor& tensor, const Ints& index) {
  at::Tensor element = tensor;
  for (int64_t i : index) element = element[i];
  return static_cast<int64_t>(element.item<float>());
}

/// 2-D convolution of one sample with symmetric padding `pad` and stride `stride`.
at::Tensor reference_conv(const Layer& layer, const at::Tensor& x, int64_t stride, int64_t pad, int64_t groups) {
  const at::Tensor& w = layer.weight;
  const int64_t outputs = w.size(0), depth = w.size(1), height = (x.size(2) + 2 * pad - w.size(2)) / stride + 1;
  const int64_t width = (x.size(3) + 2 * pad - w.size(3)) / stride + 1;
  at::Tensor y = at::zeros({1, outputs, height, width});
  auto out = y.accessor<float, 4>();
  const auto in = x.accessor<float, 4>();
  const auto filter = w.accessor<float, 4>();
  for (int64_t o = 0; o < outputs; ++o)
    for (int64_t oy = 0; oy < height; ++oy)
      for (int64_t ox = 0; ox < width; ++ox) {
        std::vector<int64_t> products;
        for (int64_t ky = 0; ky < w.size(2); ++ky)
          for (int64_t kx = 0; kx < w.size(3); ++kx)
            for (int64_t c = 0; c < depth; ++c) {
              const int64_t iy = oy * stride - pad + ky, ix = ox * stride - pad + kx;
              if (iy < 0 || ix < 0 || iy >= x.size(2) || ix >= x.size(3)) continue;
              products.push_back(static_cast<int64_t>(in[0][o / (outputs / groups) * depth + c][iy][ix]) *
                                 static_cast<int64_t>(filter[o][c][ky][kx]));
            }
        out[0][o][oy][ox] = to_code(layer, o, add_up(layer, o, outputs, groups > 1, products));
      }
  return y;
}

at::Tensor reference_rows(const Layer& layer, const at::Tensor& x, const at::Tensor& filters) {
  at::Tensor y = at::zeros({x.size(0), filters.size(0)});
  for (int64_t row = 0; row < x.size(0); ++row)
    for (int64_t o = 0; o < filters.size(0); ++o) {
      std::vector<int64_t> products;
      for (int64_t c = 0; c < x.size(1); ++c) products.push_back(at_code(x, {row, c}) * at_code(filters, {o, c}));
      y[row][o] = to_code(layer, o, add_up(layer, o, filters.size(0), false, products));
    }
  return y;
}

at::Tensor run(const Layer& layer, const Tensors& inputs, bool constant = true) {
  Graph graph;
  std::vector<Variable*> operands;
  for (size_t i = 0; i < inputs.size(); ++i) operands.push_back(&graph.add_variable());
  if (constant) operands[1]->set_value(layer.weight);
  Operation& operation = graph.add_operation(layer.type, "node", operands, {&graph.add_variable()}, layer.attributes);
  operation.edit_chip() = layer.chip;
  normalize_attributes(operation);
  BoardContext context{operation, find_target(layer.target), {}, {}, {}, {}};
  context.inputs = {{layer.bits, {layer.e_in}}, {layer.bits, layer.e_weight}, {32, {0}}};
  context.outputs = {{layer.bits, {layer.e_out}}};
  context.parameters = {{}, constant ? layer.weight : at::Tensor(), layer.bias};
  return definition_of(operation).chip.board(context)(inputs).at(0);
}

at::Tensor codes(at::IntArrayRef shape, int64_t low, int64_t high) {
  return at::randint(low, high + 1, shape).to(at::kFloat);
}

void expect_equal(const at::Tensor& got, const at::Tensor& want) {
  ASSERT_EQ(got.sizes(), want.sizes());
  EXPECT_EQ(got.scalar_type(), at::kFloat);
  EXPECT_EQ((got != want).sum().item<int64_t>(), 0) << "largest difference " << (got - want).abs().max().item<float>();
}

const std::vector<std::string> kTargets = {"esp32p4", "esp32s3", "c"};

}  // namespace

TEST(ConvBoard, MatchesTheScalarModelOnEveryTarget) {
  at::manual_seed(1);
  for (const std::string& target : kTargets)
    for (const bool channels_last : {false, true})
      for (const bool relu : {false, true}) {
        Layer layer{.target = target, .weight = codes({18, 5, 3, 3}, -40, 40), .bias = codes({18}, -3000, 3000)};
        layer.bias = layer.bias.to(at::kDouble);
        layer.attributes = {{"strides", Ints{2, 2}}, {"pads", Ints{1, 1, 1, 1}}};
        layer.chip.fused_relu = relu;
        const at::Tensor x = codes({1, 5, 7, 6}, -128, 127);
        const at::Tensor given = channels_last ? x.contiguous(at::MemoryFormat::ChannelsLast) : x;
        expect_equal(run(layer, {given, layer.weight, layer.bias}), reference_conv(layer, x, 2, 1, 1));
      }
}

TEST(ConvBoard, ShiftsPerChannelIncludingNearlyDeadOnes) {
  at::manual_seed(2);
  Layer layer{.weight = codes({20, 3, 1, 1}, -128, 127), .bias = codes({20}, -100000, 100000).to(at::kDouble)};
  layer.e_weight.clear();
  for (int channel = 0; channel < 20; ++channel) layer.e_weight.push_back(-1 - 2 * channel);
  const at::Tensor x = codes({1, 3, 9, 9}, -128, 127);
  expect_equal(run(layer, {x, layer.weight, layer.bias}), reference_conv(layer, x, 1, 0, 1));
}

// A bias at the edge of int32: lanes of the P4 stick there, the C library wraps.
TEST(ConvBoard, LanesOf32BitsSaturateOrWrap) {
  at::manual_seed(3);
  for (const std::string target : {"esp32p4", "c"}) {
    Layer layer{.target = target, .e_out = 20, .e_weight = {-3}, .weight = codes({17, 4, 3, 3}, -128, 127)};
    layer.bias = at::full({17}, -2147483648.0, at::kDouble);
    layer.bias[1] = 2147483647.0;
    layer.bias[2] = 5.0;
    layer.bias[16] = 2147483000.0;
    const at::Tensor x = codes({1, 4, 6, 6}, -128, 127);
    expect_equal(run(layer, {x, layer.weight, layer.bias}), reference_conv(layer, x, 1, 0, 1));
  }
}

TEST(ConvBoard, LanesOf20BitsSaturateStepByStep) {
  at::manual_seed(4);
  Layer layer{.target = "esp32s3", .e_out = 3, .weight = codes({24, 32, 3, 3}, 0, 127)};
  layer.weight.slice(0, 4, 12).sub_(codes({8, 32, 3, 3}, 0, 127));
  layer.bias = codes({24}, -600000, 600000).to(at::kDouble);  // the lanes see the low 20 bits
  layer.attributes = {{"pads", Ints{1, 1, 1, 1}}};
  for (const int low : {0, -128}) {
    const at::Tensor x = codes({1, 32, 5, 4}, low, 127);
    const at::Tensor want = reference_conv(layer, x, 1, 1, 1);
    expect_equal(run(layer, {x, layer.weight, layer.bias}), want);
    Layer wide = layer;
    wide.target = "c";
    EXPECT_FALSE(at::equal(run(wide, {x, layer.weight, layer.bias}), want)) << "nothing saturated in this test";
  }
}

// Layers of growing size around the point where a few sums leave the lanes: the filters in front of the slow path must
// not lose one.
TEST(ConvBoard, FewOverflowsAreAllFound) {
  at::manual_seed(12);
  int64_t layers_with_some = 0;
  for (int64_t depth = 8; depth <= 40; depth += 4)
    for (const int low : {-128, 0}) {
      Layer layer{.target = "esp32s3", .e_out = 4, .weight = codes({16, depth, 3, 3}, low / 4, 90)};
      layer.bias = codes({16}, -200000, 300000).to(at::kDouble);
      const at::Tensor x = codes({1, depth, 6, 6}, low / 3, 127);
      const at::Tensor want = reference_conv(layer, x, 1, 0, 1);
      expect_equal(run(layer, {x, layer.weight, layer.bias}), want);
      Layer wide = layer;
      wide.target = "c";
      const int64_t saturated = (run(wide, {x, layer.weight, layer.bias}) != want).sum().item<int64_t>();
      layers_with_some += saturated > 0 && saturated < want.numel() / 2;
    }
  EXPECT_GE(layers_with_some, 3);
}

TEST(ConvBoard, DepthwiseChannelsAllRunInLanes) {
  at::manual_seed(5);
  for (const std::string& target : kTargets) {
    Layer layer{.target = target, .e_out = 2, .weight = codes({6, 1, 7, 7}, 60, 127)};
    layer.bias = codes({6}, 200000, 500000).to(at::kDouble);
    layer.attributes = {{"group", int64_t{6}}, {"pads", Ints{3, 3, 3, 3}}};
    const at::Tensor x = codes({1, 6, 9, 8}, -10, 127);
    expect_equal(run(layer, {x, layer.weight, layer.bias}), reference_conv(layer, x, 1, 3, 6));
  }
}

// sum |x| |w| = 128 * 127 * 9 * 256 exceeds 2^24 and 2^25: the kernel has to split the channels.
TEST(ConvBoard, LongSumsStayExact) {
  at::manual_seed(6);
  for (const std::string& target : {std::string("esp32p4"), std::string("c")}) {
    Layer layer{.target = target, .e_out = 4, .weight = codes({3, 256, 3, 3}, 100, 127)};
    const at::Tensor x = codes({1, 256, 3, 4}, 100, 127);
    expect_equal(run(layer, {x, layer.weight}), reference_conv(layer, x, 1, 0, 1));
  }
}

TEST(ConvBoard, SixteenBitsAreExact) {
  at::manual_seed(7);
  for (const std::string& target : kTargets) {
    Layer layer{.target = target, .bits = 16, .e_in = -12, .e_out = -8, .e_weight = {-14}};
    layer.weight = codes({9, 6, 3, 3}, -32768, 32767);
    layer.bias = (codes({9}, -8000000, 8000000).to(at::kDouble) * 1000).floor();
    const at::Tensor x = codes({1, 6, 5, 5}, -32768, 32767);
    expect_equal(run(layer, {x, layer.weight, layer.bias}), reference_conv(layer, x, 1, 0, 1));
  }
}

TEST(ConvBoard, OneDimensionalWithLanes) {
  at::manual_seed(8);
  Layer layer{.target = "esp32s3", .e_out = 3, .weight = codes({16, 40, 1, 5}, 30, 127)};
  layer.attributes = {{"pads", Ints{2, 2}}};
  const at::Tensor x = codes({1, 40, 1, 11}, 0, 127);
  const at::Tensor padded = at::constant_pad_nd(x, {2, 2});
  const at::Tensor want = reference_conv(layer, padded, 1, 0, 1);
  Layer flat = layer;
  flat.weight = layer.weight.squeeze(2);
  expect_equal(run(flat, {x.squeeze(2).transpose(1, 2).contiguous().transpose(1, 2), flat.weight}), want.squeeze(2));
}

TEST(GemmBoard, MatchesTheScalarModelOnEveryTarget) {
  at::manual_seed(9);
  for (const std::string& target : kTargets)
    for (const int low : {-128, 0}) {
      Layer layer{.type = "Gemm", .target = target, .e_out = 2, .weight = codes({35, 300}, low, 127)};
      layer.bias = codes({35}, -100000, 100000).to(at::kDouble);
      const at::Tensor x = codes({4, 300}, low, 127);
      expect_equal(run(layer, {x, layer.weight, layer.bias}), reference_rows(layer, x, layer.weight));
    }
}

TEST(GemmBoard, RefusesWhatTheChipCannotDo) {
  Layer layer{.type = "Gemm", .attributes = {{"alpha", 2.0f}}, .weight = at::ones({2, 3})};
  EXPECT_THROW(run(layer, {at::ones({1, 3}), layer.weight}), UserError);
}

TEST(MatMulBoard, ConstantOperandAndBatches) {
  at::manual_seed(10);
  for (const std::string& target : kTargets) {
    Layer layer{.type = "MatMul", .target = target, .e_out = 1, .weight = codes({70, 20}, -128, 127)};
    const at::Tensor x = codes({6, 70}, -128, 127);
    expect_equal(run(layer, {x.reshape({2, 3, 70}), layer.weight}),
                 reference_rows(layer, x, layer.weight.t()).reshape({2, 3, 20}));
  }
}

TEST(MatMulBoard, ComputedOperandArrivesPacked) {
  at::manual_seed(11);
  for (const std::string& target : kTargets) {
    Layer layer{.type = "MatMul", .target = target, .e_out = 3};
    layer.chip.kernels = Width::Int8;
    const at::Tensor left = codes({3, 50}, 0, 127), right = codes({50, 37}, 0, 127);  // [K, N]
    at::Tensor packed = at::empty({1850});
    const int64_t aligned = target == "c" ? 0 : 32;
    for (int64_t k = 0; k < 50; ++k)
      for (int64_t n = 0; n < 37; ++n) {
        const int64_t place = n < aligned ? (n / 16 * 50 + k) * 16 + n % 16 : aligned * 50 + (n - aligned) * 50 + k;
        packed[place] = right[k][n];
      }
    const at::Tensor want = reference_rows(layer, left, right.t());
    expect_equal(run(layer, {left, packed.reshape({50, 37})}, false), want);
    layer.attributes["input1_layout"] = std::string("native_kn");
    expect_equal(run(layer, {left, right}, false), want);
    expect_equal(run(layer, {left.unsqueeze(0), right.unsqueeze(0).expand({2, 50, 37})}, false),
                 want.unsqueeze(0).expand({2, 3, 37}));
  }
}

TEST(Accumulators, RiskIsFoundFromWeightsAlone) {
  const AccumulatorRule rule = accumulator_rule(find_target("esp32s3"), 8, 20, false);
  EXPECT_EQ(rule.vector_channels, 16);
  EXPECT_EQ(rule.lane_bits, 20);
  at::Tensor filters = at::ones({20, 31, 1, 1});
  filters[3].fill_(127);  // 31 * 127 * 128 = 503,936 alone, above 2^19 with the bias
  filters[17].fill_(127);
  EXPECT_TRUE(channels_at_risk(rule, filters, {}, 128).empty());
  const at::Tensor bias = at::full({20}, 30000.0, at::kDouble);
  EXPECT_EQ(channels_at_risk(rule, filters, bias, 128), (std::vector<int64_t>{3}));
}
