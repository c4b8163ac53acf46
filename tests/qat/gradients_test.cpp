// Gradients against networks written with LibTorch's own operators.
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/ops/operator.h"
#include "core/quant/quantize_gradient.h"
#include "qat/trainable_graph.h"
#include "tests/qat/small_network.h"
#include "tests/qat/straight_through.h"

namespace espq {
namespace {

/// The small network's forward pass with `quantize(operation slot, value)` around its operators.
template <typename Quantize>
at::Tensor hand_written(const Graph& graph, const std::map<std::string, at::Tensor>& p, const at::Tensor& x,
                        const Quantize& quantize) {
  const auto in = [&](const char* name, size_t slot, const at::Tensor& value) {
    return quantize(graph.find_operation(name)->input_quant()[slot], value);
  };
  const auto out = [&](const char* name, const at::Tensor& value) {
    return quantize(graph.find_operation(name)->output_quant()[0], value);
  };
  const at::Tensor c = out(
      "conv", at::conv2d(in("conv", 0, x), in("conv", 1, p.at("conv.weight")), in("conv", 2, p.at("conv.bias")), 1, 1));
  const at::Tensor r = out("relu", at::relu(in("relu", 0, c)));
  const at::Tensor f = out("flatten", in("flatten", 0, out("pool", quantize.pool(in("pool", 0, r)))).flatten(1));
  return out("gemm",
             at::linear(in("gemm", 0, f), in("gemm", 1, p.at("gemm.weight")), in("gemm", 2, p.at("gemm.bias"))));
}

struct Case {
  const char* target;
  bool mask_per_channel;
};

class StraightThroughGradients : public ::testing::TestWithParam<Case> {};

TEST_P(StraightThroughGradients, EqualTheHandWrittenNetwork) {
  const Graph graph = small_quantized_network(GetParam().target);
  TrainOptions options;
  options.quirks.clipped_channels_pass_gradients = !GetParam().mask_per_channel;
  TrainableGraph trainable(graph, options);
  std::map<std::string, at::Tensor> parameters;
  {
    // Some values leave their grids, so that masks matter.
    c10::AutoGradMode no_gradients(false);
    for (auto& [name, leaf] : trainable.named_parameters()) {
      if (name == "conv.weight" || name == "gemm.weight") leaf.mul_(at::rand_like(leaf).gt(0.8).to(at::kFloat) + 1);
      parameters.emplace(name, leaf.detach().clone().requires_grad_());
    }
  }
  const at::Tensor x = at::randn({8, 2, 6, 8}) * 2, target = at::randn({8, 3});
  const at::Tensor ours = trainable.forward({x})[0];
  const at::Tensor theirs = hand_written(graph, parameters, x, StraightThrough{graph, GetParam().mask_per_channel});
  EXPECT_TRUE(at::equal(ours, theirs));
  at::mse_loss(ours, target).backward();
  at::mse_loss(theirs, target).backward();
  for (const auto& [name, leaf] : trainable.named_parameters()) {
    ASSERT_TRUE(leaf.grad().defined()) << name;
    const at::Tensor& want = parameters.at(name).grad();
    // Both run the same operators; only the order of additions in float32 differs.
    EXPECT_TRUE(at::allclose(leaf.grad(), want, 1e-5, 1e-6))
        << name << ": " << (leaf.grad() - want).abs().max().item<float>();
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, StraightThroughGradients,
                         ::testing::Values(Case{"esp32p4", false}, Case{"esp32p4", true}, Case{"esp32s3", false}),
                         [](const auto& info) {
                           return std::string(info.param.target) + (info.param.mask_per_channel ? "_masked" : "");
                         });

/// TQT's surrogate of one slot: what the rounding did at the point of departure stays as it was there, the scale is a
/// real number. Its derivatives are those that the framework claims.
struct Surrogate {
  const Graph& graph;
  const std::map<ScaleId, at::Tensor>& log2_scales;  ///< by root; slots of other groups round with their exponents
  mutable std::vector<std::pair<at::Tensor, at::Tensor>> recorded = {};  ///< per call: mask, and r - v or q
  mutable size_t call = 0;
  mutable at::Tensor largest = {};  ///< which elements MaxPool chose there: on a grid many are equal
  bool recording = true;

  at::Tensor operator()(const SlotQuant& slot, const at::Tensor& value) const {
    if (!slot.quantizes()) return value;
    if (recording) {
      const at::Tensor v = value / scales(slot_exponents(graph, slot), value);
      const at::Tensor r = rounded(v, graph.target()->rounding);
      const at::Tensor q = r.clamp(quant_min(slot.bits), quant_max(slot.bits)), inside = r == q;
      recorded.emplace_back(inside, at::where(inside, r - v, q));
    }
    const auto& [inside, rest] = recorded.at(call++);
    const auto learned = log2_scales.find(graph.scales().root(slot.scale));
    at::Tensor scale = scales(slot_exponents(graph, slot), value);
    if (learned != log2_scales.end()) scale = at::exp2(learned->second).reshape(scale.sizes());
    return at::where(inside, value, at::zeros_like(value)) + scale * rest;
  }
  at::Tensor pool(const at::Tensor& value) const {
    if (recording) largest = std::get<1>(at::max_pool2d_with_indices(value, 2));
    return value.flatten(2).gather(2, largest.flatten(2)).reshape(largest.sizes());
  }
};

class ExponentGradients : public ::testing::TestWithParam<const char*> {};

TEST_P(ExponentGradients, EqualFiniteDifferencesOfTheSurrogate) {
  const Graph graph = small_quantized_network(GetParam());
  TrainOptions options;
  options.learn_activation_exponents = options.learn_weight_exponents = true;
  TrainableGraph trainable(graph, options);
  const at::Tensor x = at::randn({8, 2, 6, 8}) * 2, target = at::randn({8, 3});
  at::mse_loss(trainable.forward({x})[0], target).backward();

  std::map<std::string, at::Tensor> parameters;
  std::map<ScaleId, at::Tensor> log2_scales;
  std::map<std::string, ScaleId> roots;
  for (const Operation* operation : graph.operations())
    for (size_t slot = 0; slot < operation->inputs().size(); ++slot)
      roots[operation->input(slot)->name() + ".exponent"] = graph.scales().root(operation->input_quant()[slot].scale);
  for (const Operation* operation : graph.operations())
    roots[operation->output()->name() + ".exponent"] = graph.scales().root(operation->output_quant()[0].scale);
  size_t learned = 0;
  for (const auto& [name, leaf] : trainable.named_parameters()) {
    const at::Tensor wide = leaf.detach().to(at::kDouble);
    if (!roots.count(name)) {
      parameters[name] = wide;
      continue;
    }
    log2_scales[roots.at(name)] = wide.clone();
    ++learned;
  }
  EXPECT_EQ(learned, 5u);  // input, two weights, the activation behind Relu, the output

  Surrogate surrogate{graph, log2_scales};
  const auto loss = [&] {
    surrogate.call = 0;
    return at::mse_loss(hand_written(graph, parameters, x.to(at::kDouble), surrogate), target.to(at::kDouble))
        .item<double>();
  };
  loss();
  surrogate.recording = false;
  constexpr double h = 1e-5;
  for (const auto& [name, leaf] : trainable.named_parameters()) {
    if (!roots.count(name)) continue;
    at::Tensor moved = log2_scales.at(roots.at(name));
    for (int64_t i = 0; i < moved.numel(); ++i) {
      double* element = moved.mutable_data_ptr<double>() + i;
      const double at = *element;
      *element = at + h;
      const double above = loss();
      *element = at - h;
      const double below = loss();
      *element = at;
      const double want = (above - below) / (2 * h), got = leaf.grad().flatten()[i].item<double>();
      // float32 sums over some thousand elements against float64
      EXPECT_NEAR(got, want, 1e-4 * std::fabs(want) + 2e-6) << name << "[" << i << "]";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, ExponentGradients, ::testing::Values("esp32p4", "esp32s3"));

// ------------------------------------------------------------------------------------------------ one slot
struct SlotCase {
  const char* name;
  Shape shape;
  std::vector<int> exponents;
  int channel_axis;
  int bits;
};

std::ostream& operator<<(std::ostream& stream, const SlotCase& item) { return stream << item.name; }

class OneSlot : public ::testing::TestWithParam<std::tuple<SlotCase, Rounding>> {};

/// Fast loops against LibTorch's operators: values, masks, gradients of scales; long enough for several pieces.
TEST_P(OneSlot, EqualsOperators) {
  const auto& [item, rounding] = GetParam();
  at::manual_seed(3);
  const double spread = std::ldexp(1.0, item.exponents[0]) * quant_max(item.bits);
  const at::Tensor value = (at::randn(item.shape) * spread).requires_grad_();
  const at::Tensor incoming = at::randn(item.shape);
  const at::Tensor log2_scale =
      at::tensor(std::vector<float>(item.exponents.begin(), item.exponents.end())).requires_grad_();
  const auto channels_shape = [&value, &item = item] {
    Shape shape(value.dim(), 1);
    if (item.exponents.size() > 1) shape[item.channel_axis] = static_cast<int64_t>(item.exponents.size());
    return shape;
  }();
  const at::Tensor scale = at::exp2(log2_scale.detach()).reshape(channels_shape);
  const at::Tensor v = value.detach() / scale, r = rounded(v, rounding),
                   q = r.clamp(quant_min(item.bits), quant_max(item.bits));
  const at::Tensor inside = r == q;
  for (const bool masked : {false, true}) {
    value.mutable_grad().reset();
    const at::Tensor result =
        fake_quantize_with_gradient(value, {{item.bits, item.exponents}, item.channel_axis, rounding, masked});
    EXPECT_TRUE(at::equal(result, q * scale));
    result.backward(incoming);
    EXPECT_TRUE(at::equal(value.grad(), masked ? incoming * inside : incoming));
  }
  value.mutable_grad().reset();
  fake_quantize_with_gradient(value, {{item.bits, item.exponents}, item.channel_axis, rounding, false}, log2_scale)
      .backward(incoming);
  EXPECT_TRUE(at::equal(value.grad(), incoming * inside));
  const at::Tensor terms = (incoming * at::where(inside, r - v, q) * scale).to(at::kDouble) * std::log(2.0);
  at::Tensor want = terms.sum().reshape({1});
  if (item.exponents.size() > 1)
    want = terms.movedim(item.channel_axis, 0).reshape({static_cast<int64_t>(item.exponents.size()), -1}).sum(1);
  EXPECT_TRUE(at::allclose(log2_scale.grad().to(at::kDouble), want, 1e-4, 1e-5 * spread)) << log2_scale.grad() << want;
}

INSTANTIATE_TEST_SUITE_P(Slots, OneSlot,
                         ::testing::Combine(::testing::Values(SlotCase{"activation", {3, 5, 40, 51}, {-5}, -1, 8},
                                                              SlotCase{"activation16", {3, 7}, {-12}, -1, 16},
                                                              SlotCase{"filters", {4, 3, 3, 3}, {-7, -6, -9, -7}, 0, 8},
                                                              SlotCase{"transposed", {6, 3, 5}, {-7, -6, -8}, 1, 8},
                                                              SlotCase{"columns", {50, 3}, {-7, -6, -7}, 1, 8},
                                                              SlotCase{"bias", {3}, {-27, -26, -30}, 0, 32},
                                                              SlotCase{"tiny_scale", {3, 4}, {-125, -126, -125}, 0, 8}),
                                            ::testing::Values(Rounding::HalfEven, Rounding::HalfUp)));

TEST(OneSlotLayouts, OtherMemoryOrdersGiveTheSameNumbers) {
  const at::Tensor plain = at::randn({2, 6, 5, 7}) * 3, incoming = at::randn({2, 6, 5, 7});
  const at::Tensor log2_scale = at::tensor({-5.0f});
  for (const bool learns : {false, true}) {
    std::vector<at::Tensor> results, gradients, exponent_gradients;
    for (const bool other_order : {false, true}) {
      const at::Tensor value =
          (other_order ? plain.contiguous(at::MemoryFormat::ChannelsLast) : plain.clone()).detach().requires_grad_();
      const at::Tensor alpha = log2_scale.clone().requires_grad_();
      const at::Tensor result = fake_quantize_with_gradient(value, {.grid = {8, {-5}}}, learns ? alpha : at::Tensor());
      result.backward(incoming);
      results.push_back(result.detach());
      gradients.push_back(value.grad());
      exponent_gradients.push_back(learns ? alpha.grad() : alpha);
    }
    EXPECT_TRUE(at::equal(results[0], results[1]));
    EXPECT_TRUE(at::equal(gradients[0], gradients[1]));
    EXPECT_TRUE(at::allclose(exponent_gradients[0], exponent_gradients[1], 1e-5, 1e-5));
  }
}

TEST(AddAndQuantize, IsTheSumAndTheRoundingBehindIt) {
  at::manual_seed(4);
  const at::Tensor a = at::randn({3, 5, 41, 77}), b = at::randn({3, 5, 41, 77}), row = at::randn({77});
  for (const at::Tensor& other : {b, row, b.transpose(0, 1).contiguous().transpose(0, 1)})  // one pass, and two
    for (const Rounding rounding : {Rounding::HalfEven, Rounding::HalfUp})
      for (const bool relu : {false, true}) {
        const GridRounding slot{.grid = {8, {-6}}, .rounding = rounding};
        const Tensors ours{a.clone().requires_grad_(), other.detach().clone().requires_grad_()};
        const Tensors theirs{a.clone().requires_grad_(), other.detach().clone().requires_grad_()};
        const at::Tensor got = add_and_quantize_with_gradient(ours[0], ours[1], slot, relu);
        const at::Tensor want = fake_quantize_with_gradient(theirs[0] + theirs[1], slot, {}, relu);
        EXPECT_TRUE(at::equal(got, want));
        const at::Tensor gradient = at::randn(a.sizes());
        got.backward(gradient);
        want.backward(gradient);
        for (int i : {0, 1}) EXPECT_TRUE(at::equal(ours[i].grad(), theirs[i].grad())) << i;
        EXPECT_GT(ours[0].grad().eq(0).sum().item<int64_t>(), 100);  // some left the grid
      }
}

// A magnitude, the root of squares, is 0 where everything is.
TEST(Gradients, OfMagnitudesAreFinite) {
  Graph graph;
  Variable &x = graph.add_variable("x"), &y = graph.add_variable("y");
  const Operation& root = graph.add_operation("Sqrt", "root", {&x}, {&y});
  const at::Tensor values = at::tensor({0.0f, 2.0f, -3.0f}).requires_grad_();
  const at::Tensor magnitudes = definition_of(root).forward({.operation = root}, {values.square()})[0];
  EXPECT_TRUE(at::equal(magnitudes.detach(), at::tensor({0.0f, 2.0f, 3.0f})));
  magnitudes.sum().backward();
  EXPECT_TRUE(at::equal(values.grad(), at::tensor({0.0f, 1.0f, -1.0f})));
}

}  // namespace
}  // namespace espq
