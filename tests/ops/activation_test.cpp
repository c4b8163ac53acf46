#include <gtest/gtest.h>

#include <cmath>

#include "core/ops/lookup_table.h"
#include "core/support/error.h"
#include "tests/ops/node_run.h"

using namespace espq;

namespace {

const Grid kInt8{8, {-4}};

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

/// What ONNX says about every operator of one operand, in double.
struct Case {
  const char* type;
  double (*function)(double);
  AttributeMap attributes = {};
};

}  // namespace

TEST(ActivationForward, FollowsTheFormulasOfTheStandard) {
  const std::vector<Case> cases = {
      {"Relu", [](double x) { return std::max(x, 0.0); }},
      {"LeakyRelu", [](double x) { return x < 0 ? 0.01 * x : x; }},
      {"LeakyRelu", [](double x) { return x < 0 ? 0.25 * x : x; }, {{"alpha", 0.25f}}},
      {"Sigmoid", sigmoid},
      {"Tanh", [](double x) { return std::tanh(x); }},
      {"HardSigmoid", [](double x) { return std::clamp(0.2 * x + 0.5, 0.0, 1.0); }},
      {"HardSigmoid",
       [](double x) { return std::clamp(x / 8 + 0.25, 0.0, 1.0); },
       {{"alpha", 0.125f}, {"beta", 0.25f}}},
      {"HardSwish", [](double x) { return x * std::clamp(x / 6 + 0.5, 0.0, 1.0); }},
      {"Swish", [](double x) { return x * sigmoid(x); }},
      {"Elu", [](double x) { return x < 0 ? std::expm1(x) : x; }},
      {"Elu", [](double x) { return x < 0 ? 2 * std::expm1(x) : x; }, {{"alpha", 2.0f}}},
      {"Selu", [](double x) { return 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * std::expm1(x)); }},
      {"Celu", [](double x) { return x < 0 ? 2 * std::expm1(x / 2) : x; }, {{"alpha", 2.0f}}},
      {"Gelu", [](double x) { return x / 2 * (1 + std::erf(x / std::sqrt(2.0))); }},
      {"Gelu",
       [](double x) { return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); },
       {{"approximate", std::string("tanh")}}},
      {"Mish", [](double x) { return x * std::tanh(std::log1p(std::exp(x))); }},
      {"Softplus", [](double x) { return std::log1p(std::exp(x)); }},
      {"Softsign", [](double x) { return x / (1 + std::abs(x)); }},
      {"Exp", [](double x) { return std::exp(x); }},
      {"Neg", [](double x) { return -x; }},
      {"Erf", [](double x) { return std::erf(x); }},
      {"Round", [](double x) { return std::nearbyint(x); }},
      {"Reciprocal", [](double x) { return 1 / x; }},
      {"ThresholdedRelu", [](double x) { return x > 1 ? x : 0.0; }},
  };
  const at::Tensor x = at::linspace(-8.0625, 8.0625, 130, at::kFloat);
  for (const Case& item : cases) {
    const at::Tensor got = run_one(item.type, {x}, item.attributes);
    for (int64_t i = 0; i < x.numel(); ++i) {
      const double want = item.function(x[i].item<double>());
      // float32 inside LibTorch against double here
      EXPECT_NEAR(got[i].item<double>(), want, 2e-6 * std::max(1.0, std::abs(want)))
          << item.type << " at " << x[i].item<double>();
    }
  }
}

TEST(ActivationForward, ClipTakesEitherBound) {
  const at::Tensor x = at::tensor({-3.f, 0.f, 3.f});
  EXPECT_TRUE(at::equal(run_one("Clip", {x}), x));
  EXPECT_TRUE(at::equal(run_one("Clip", {x, at::scalar_tensor(-1.0)}), at::tensor({-1.f, 0.f, 3.f})));
  EXPECT_TRUE(at::equal(run_one("Clip", {x, {}, at::scalar_tensor(1.0)}), at::tensor({-3.f, 0.f, 1.f})));
}

TEST(ActivationForward, GradientsFlow) {
  for (const char* type : {"Relu", "Sigmoid", "HardSwish", "Swish", "Gelu", "Clip", "PRelu"}) {
    const at::Tensor x = at::randn({16}).requires_grad_();
    Tensors inputs = {x};
    if (std::string(type) == "Clip") inputs.insert(inputs.end(), {at::scalar_tensor(-1.0), at::scalar_tensor(1.0)});
    if (std::string(type) == "PRelu") inputs.push_back(at::full({1}, 0.25));
    run_one(type, inputs).sum().backward();
    EXPECT_TRUE(x.grad().defined() && x.grad().abs().sum().item<float>() > 0) << type;
  }
}

// ---------------------------------------------------------------------------------------------- tables
TEST(Table, Int8EntriesAreTheRoundedFunction) {
  for (const char* name : {"esp32p4", "esp32s3"}) {
    const Rounding rounding = find_target(name).rounding;
    Graph graph;
    Operation& operation = graph.add_operation("Sigmoid", "s", {}, {});
    const at::Tensor table = build_table(definition_of(operation), operation, {}, {8, {-4}}, {8, {-7}}, 1, rounding);
    ASSERT_EQ(table.scalar_type(), at::kChar);
    ASSERT_EQ(table.numel(), 256);
    for (int q = -128; q < 128; ++q) {
      const double scaled = sigmoid(q / 16.0) * 128;
      if (std::abs(scaled - std::floor(scaled) - 0.5) < 1e-4) continue;  // float32 decides
      EXPECT_EQ(table[q + 128].item<int>(), std::min(127.0, std::round(scaled))) << q;
    }
  }
}

// LeakyRelu with slope 1/2 on equal exponents meets a tie at every odd code.
TEST(Table, TiesFollowTheTarget) {
  Graph graph;
  Operation& operation = graph.add_operation("LeakyRelu", "l", {}, {}, {{"alpha", 0.5f}});
  const auto entry = [&](int code, Rounding rounding) {
    return build_table(definition_of(operation), operation, {}, kInt8, kInt8, 1, rounding)[code + 128].item<int>();
  };
  EXPECT_EQ(entry(-3, Rounding::HalfUp), -1);
  EXPECT_EQ(entry(-3, Rounding::HalfEven), -2);
  EXPECT_EQ(entry(-5, Rounding::HalfUp), -2);
  EXPECT_EQ(entry(-5, Rounding::HalfEven), -2);
}

TEST(Table, FurtherOperandsAreRealValues) {
  Graph graph;
  Operation& clip = graph.add_operation("Clip", "c", {}, {});
  const at::Tensor table = build_table(definition_of(clip), clip, {{}, at::scalar_tensor(0.0), at::scalar_tensor(6.0)},
                                       kInt8, kInt8, 1, Rounding::HalfUp);
  EXPECT_EQ(table[127].item<int>(), 0);
  EXPECT_EQ(table[128 + 127].item<int>(), 96);  // 6 / 2^-4
  Operation& prelu = graph.add_operation("PRelu", "p", {}, {});
  const at::Tensor slopes =
      build_table(definition_of(prelu), prelu, {{}, at::full({1, 1, 1}, 0.25)}, kInt8, kInt8, 1, Rounding::HalfUp);
  EXPECT_EQ(slopes[0].item<int>(), -32);
}

TEST(Table, Int16ReadsTheNearestEntry) {
  EXPECT_EQ(table_size(16, 256), 257);
  EXPECT_EQ(table_size(16, 1), 65536);
  const at::Tensor table = at::arange(257, at::kShort);
  const at::Tensor in = codes({-32768, -32641, -32640, -32639, -32384, 32767});
  // (code + 32768) / 256 = 0, 127/256, 1/2, 129/256, 3/2, nearly 256
  EXPECT_TRUE(at::equal(table_kernel(table, 16, Rounding::HalfUp)({in})[0], codes({0, 0, 1, 1, 2, 256})));
  EXPECT_TRUE(at::equal(table_kernel(table, 16, Rounding::HalfEven)({in})[0], codes({0, 0, 0, 1, 2, 256})));
  EXPECT_THROW(table_kernel(at::zeros({100}, at::kShort), 16, Rounding::HalfUp), UserError);
  EXPECT_THROW(table_kernel(at::zeros({255}, at::kChar), 8, Rounding::HalfUp), UserError);
}

TEST(Table, LutComputesItsOriginalFunction) {
  const AttributeMap attributes = {{"alpha", 2.0f}};
  ChipFacts facts, unknown;
  facts.function = "Elu";
  facts.table_step = 32;
  unknown.function = "Nothing";
  const at::Tensor x = at::tensor({-1.f, 1.f});
  EXPECT_TRUE(at::equal(run_node("LUT", {x}, attributes, false, 1, facts)[0], run_one("Elu", {x}, attributes)));
  const BoardNode node{
      .type = "LUT", .inputs = {{16, {-12}}}, .outputs = {{16, {-13}}}, .attributes = attributes, .chip = facts};
  // -4096 (= -1) lies on the table's grid of 32 codes: 2 * (e^-1 - 1) * 2^13
  EXPECT_EQ(node({codes({-4096})})[0].item<float>(), std::round(2 * std::expm1(-1.0) * 8192));
  EXPECT_THROW(run_node("LUT", {x}, {}, false, 1, unknown), UserError);
}

// ---------------------------------------------------------------------------------------------- exact kernels
TEST(ActivationBoard, Int16FormulasRoundByTarget) {
  const BoardNode sigmoid16{.type = "Sigmoid", .target = "c", .inputs = {{16, {-12}}}, .outputs = {{16, {-15}}}};
  EXPECT_TRUE(at::equal(sigmoid16({codes({0, 32767, -32768})}),
                        codes({16384, 32757, std::round(32768 * static_cast<float>(sigmoid(-8)))})));
  const BoardNode relu{.type = "Relu", .target = "c", .inputs = {{16, {-12}}}, .outputs = {{16, {-11}}}};
  EXPECT_TRUE(at::equal(relu({codes({3, 5, -7})}), codes({2, 3, 0})));  // halves go up
  BoardNode even = relu;
  even.target = "esp32p4";
  EXPECT_TRUE(at::equal(even({codes({3, 5, -7})}), codes({2, 2, 0})));
}

TEST(ActivationBoard, NegSaturatesAndIgnoresExponents) {
  const BoardNode neg{.type = "Neg", .inputs = {kInt8}, .outputs = {{8, {-2}}}};
  EXPECT_TRUE(at::equal(neg({codes({-128, -1, 5})}), codes({127, 1, -5})));
}

TEST(ActivationBoard, ClipBoundsAreCodes) {
  const BoardNode clip{.type = "Clip",
                       .target = "c",
                       .inputs = {kInt8, kInt8, kInt8},
                       .outputs = {{8, {-3}}},
                       .parameters = {false, true, true}};
  EXPECT_TRUE(at::equal(clip({codes({-9, 7, 99}), codes({-2}), codes({96})}), codes({-1, 4, 48})));
}

TEST(ActivationBoard, PReluRules) {
  // e_out - e_in - e_slope = 7: -3 * 64 / 128 = -1.5
  const auto node = [](const char* target, int e_out) {
    return BoardNode{.type = "PRelu",
                     .target = target,
                     .inputs = {kInt8, {8, {-7}}},
                     .outputs = {{8, {e_out}}},
                     .parameters = {false, true}};
  };
  const Tensors operands = {codes({-3, 5}).reshape({1, 1, 1, 2}), codes({64, 64}).reshape({2, 1, 1})};
  const auto run = [&](const char* target, int e_out) { return node(target, e_out)(operands).flatten(); };
  EXPECT_TRUE(at::equal(run("c", -4), codes({-2, 5})));        // floor
  EXPECT_TRUE(at::equal(run("c", -3), codes({-1, 5})));        // positives keep their code
  EXPECT_TRUE(at::equal(run("esp32s3", -4), codes({-1, 5})));  // half up
  EXPECT_TRUE(at::equal(run("esp32s3", -3), codes({-1, 3})));  // positives move to the new exponent
  EXPECT_TRUE(at::equal(run("esp32p4", -4), codes({-2, 5})));  // half to even
  EXPECT_TRUE(at::equal(run("esp32p4", -3), codes({-1, 2})));
}

TEST(ActivationBoard, PReluSlopesFollowTheInnermostAxis) {
  const BoardNode node{
      .type = "PRelu", .target = "c", .inputs = {kInt8, {8, {0}}}, .outputs = {kInt8}, .parameters = {false, true}};
  const at::Tensor x = codes({-1, -1, -1, -1}).reshape({1, 2, 1, 2});
  EXPECT_TRUE(at::equal(node({x, codes({2, 3}).reshape({2, 1, 1})}).flatten(), codes({-2, -3, -2, -3})));
  EXPECT_THROW(node({x.reshape({1, 1, 1, 4}), codes({2, 3}).reshape({2, 1, 1})}), UserError);
}
