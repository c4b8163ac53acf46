#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/quant/fake_quantize.h"
#include "core/quant/quantize_gradient.h"
#include "core/quant/rounding.h"
#include "core/quant/target.h"
#include "core/support/error.h"

namespace espq {
namespace {

TEST(Rounding, TiesFollowTheTarget) {
  const at::Tensor ties = at::tensor({-2.5f, -1.5f, -0.5f, 0.5f, 1.5f, 2.5f});
  EXPECT_TRUE(at::equal(round_tensor(ties, Rounding::HalfEven), at::tensor({-2.f, -2.f, 0.f, 0.f, 2.f, 2.f})));
  EXPECT_TRUE(at::equal(round_tensor(ties, Rounding::HalfUp), at::tensor({-2.f, -1.f, 0.f, 1.f, 2.f, 3.f})));
}

TEST(Rounding, ShiftAgreesWithExactDivision) {
  // long double holds every 40-bit integer and its quotient by 2^s exactly, so it is an independent reference.
  for (int64_t value : {-1234567890123LL, -5LL, -4LL, -3LL, -2LL, -1LL, 0LL, 1LL, 2LL, 3LL, 6LL, 10LL, 987654321098LL})
    for (int shift : {1, 2, 3, 7, 20, 39}) {
      const long double quotient = std::ldexp(static_cast<long double>(value), -shift);
      EXPECT_EQ(rounding_shift(value, shift, Rounding::HalfUp), static_cast<int64_t>(std::floor(quotient + 0.5L)));
      EXPECT_EQ(rounding_shift(value, shift, Rounding::HalfEven), static_cast<int64_t>(std::nearbyint(quotient)));
    }
  EXPECT_EQ(rounding_shift(-3, -2, Rounding::HalfUp), -12);
}

class FakeQuantizeOn : public ::testing::TestWithParam<Rounding> {};

TEST_P(FakeQuantizeOn, FusedKernelEqualsTensorArithmetic) {
  const at::Tensor value = at::randn({3, 17, 5}) * 4;
  const double scale = std::ldexp(1.0, -5);
  const at::Tensor want = round_tensor(value / scale, GetParam()).clamp(-128, 127) * scale;
  EXPECT_TRUE(at::equal(fake_quantize(value, {-5}, -1, 8, GetParam()), want));
  // A permuted view is dense, too, and keeps its layout.
  const at::Tensor view = value.permute({0, 2, 1});
  EXPECT_TRUE(at::equal(fake_quantize(view, {-5}, -1, 8, GetParam()), want.permute({0, 2, 1})));
}

TEST_P(FakeQuantizeOn, PerChannelEqualsChannelByChannel) {
  const at::Tensor value = at::randn({4, 6});
  const std::vector<int> exponents{-3, -5, -7, -2};
  const at::Tensor got = fake_quantize(value, exponents, 0, 8, GetParam());
  for (int channel = 0; channel < 4; ++channel)
    EXPECT_TRUE(at::equal(got[channel], fake_quantize(value[channel], {exponents[channel]}, -1, 8, GetParam())));
}

// Bounds between two codes and on one, within the grid and outside, without limit, and crossing each other.
TEST_P(FakeQuantizeOn, ClampedEqualsClampingBefore) {
  constexpr float kNone = std::numeric_limits<float>::infinity();
  const at::Tensor value = at::cat({at::randn({500}) * 4, at::arange(-300, 300) / 64.0});
  for (const ClipBounds bounds : {ClipBounds{0, 6}, ClipBounds{-0.51f, 2.015625f}, ClipBounds{-9, 1.234f},
                                  ClipBounds{.low = 0}, ClipBounds{-kNone, -0.3f}, ClipBounds{2, 1}, ClipBounds{8, 9}})
    for (const int exponent : {-5, -4, 3}) {
      const at::Tensor want = fake_quantize(at::clamp(value, bounds.low, bounds.high), {exponent}, -1, 8, GetParam());
      EXPECT_TRUE(at::equal(fake_quantize_clamped(value, bounds, {8, {exponent}}, GetParam()), want))
          << bounds.low << " " << bounds.high << " " << exponent;
    }
}

INSTANTIATE_TEST_SUITE_P(Roundings, FakeQuantizeOn, ::testing::Values(Rounding::HalfEven, Rounding::HalfUp));

TEST(GivenAway, MemoryIsUsedAgainWhereNobodyElseSeesIt) {
  const auto place_of = [](const at::Tensor& tensor) { return tensor.const_data_ptr(); };
  for (const bool seen : {false, true}) {
    at::Tensor value = at::linspace(-3, 3, 20), other = seen ? value.slice(0, 0, 10) : at::Tensor();
    const at::Tensor want = at::clamp(value, 0, 1), before = value.clone();
    const void* place = place_of(value);
    const at::Tensor clamped = clamp_result(std::move(value), {0, 1});
    EXPECT_TRUE(at::equal(clamped, want));
    EXPECT_EQ(place_of(clamped) == place, !seen);
    EXPECT_TRUE(!seen || at::equal(other, before.slice(0, 0, 10)));
  }
}

TEST(QuantizeGradient, PassesWhereTheRoundedIntegerIsInRange) {
  // 127.4 rounds to 127 and passes, 127.6 rounds to 128 and does not; per channel everything passes.
  const at::Tensor value = at::tensor({127.4f, 127.6f, -128.4f, -129.f, 3.2f}).requires_grad_();
  fake_quantize_with_gradient(value, {.grid = {8, {0}}}).sum().backward();
  EXPECT_TRUE(at::equal(value.grad(), at::tensor({1.f, 0.f, 1.f, 0.f, 1.f})));
  const at::Tensor weight = at::tensor({500.f, 1.f}).reshape({2, 1}).requires_grad_();
  fake_quantize_with_gradient(weight, {.grid = {8, {0, 1}}, .channel_axis = 0, .masked = false}).sum().backward();
  EXPECT_TRUE(at::equal(weight.grad(), at::ones({2, 1})));
}

TEST(QuantizeToIntegers, WideBiasesSaturateInsteadOfWrapping) {
  const at::Tensor value = at::tensor({1.0f, -1.0f, 0.25f});
  const at::Tensor wide = quantize_to_integers(value, {-40}, -1, 32, Rounding::HalfEven);
  EXPECT_EQ(wide.scalar_type(), at::kInt);
  EXPECT_EQ(wide[0].item<int64_t>(), (int64_t{1} << 31) - 1);
  EXPECT_EQ(wide[1].item<int64_t>(), -(int64_t{1} << 31));
  const at::Tensor forty = quantize_to_integers(value, {-45}, -1, 40, Rounding::HalfUp);
  EXPECT_EQ(forty[0].item<int64_t>(), (int64_t{1} << 39) - 1);
  const at::Tensor all = quantize_to_integers(value, {-70}, -1, 64, Rounding::HalfUp);
  EXPECT_EQ(all[0].item<int64_t>(), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(all[1].item<int64_t>(), std::numeric_limits<int64_t>::min());
}

TEST(Targets, TableIsKnownByName) {
  EXPECT_EQ(find_target("ESP32P4").name, "esp32p4");
  EXPECT_TRUE(find_target("esp32s31").per_channel_weights);
  EXPECT_TRUE(find_target("esp32s3").saturating_20bit);
  EXPECT_EQ(find_target("esp32c3").block(8), 0);
  EXPECT_EQ(find_target("esp32p4").block(16), 8);
  EXPECT_THROW(find_target("esp8266"), UserError);
}

TEST(ScaleForest, MergeMovesTheGroupAttachMovesTheNode) {
  ScaleForest forest;
  const ScaleId a = forest.create(), b = forest.create(), c = forest.create();
  forest.set_exponents(b, {-4});
  forest.merge(a, b);
  EXPECT_EQ(forest.exponents(a), std::vector<int>{-4});
  forest.set_exponents(c, {-9});
  forest.attach(a, c);
  EXPECT_EQ(forest.exponents(a), std::vector<int>{-9});
  EXPECT_EQ(forest.exponents(b), std::vector<int>{-4});
  forest.detach(a);
  forest.set_exponents(a, {1});
  EXPECT_EQ(forest.exponents(c), std::vector<int>{-9});
}

}  // namespace
}  // namespace espq
