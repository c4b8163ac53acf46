#include "core/analysis/tensor_error.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/analysis/measure.h"

namespace espq {
namespace {

constexpr int kExponent = -4;
const Grid kGrid{8, {kExponent}};

at::Tensor random(at::IntArrayRef shape, double factor, uint64_t seed) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return at::randn(shape, generator) * factor;
}

/// LibTorch's own arithmetic, in double.
struct Formulas {
  at::Tensor a, b;
  at::Tensor rows(const at::Tensor& value) const { return value.to(at::kDouble).reshape({a.size(0), -1}); }
  at::Tensor error() const { return rows(b) - rows(a); }
  double noise_to_signal() const {
    return (error().square().sum(1) / (rows(a).square().sum(1) + 1e-7)).mean().item<double>();
  }
  double cosine() const { return at::cosine_similarity(rows(a), rows(b), 1).mean().item<double>(); }
  at::Tensor lsb(const at::Tensor& value) const { return rows(value) / std::ldexp(1.0, kExponent); }
};

TEST(TensorErrorSums, AgreesWithLibtorchsFormulas) {
  const at::Tensor a = random({3, 5, 7, 2}, 4, 1);
  const at::Tensor codes = at::clamp(at::round(a * 16 + random({3, 5, 7, 2}, 2, 2)), -128, 127);
  const Formulas want{a, codes / 16};
  TensorErrorSums sums(kGrid);
  // In two pieces, as batches come.
  sums.add(a.narrow(0, 0, 1), want.b.narrow(0, 0, 1));
  sums.add(a.narrow(0, 1, 2), want.b.narrow(0, 1, 2));
  const TensorError got = sums.result();
  EXPECT_EQ(got.elements, a.numel());
  EXPECT_EQ(got.different, want.error().ne(0).sum().item<int64_t>());
  EXPECT_NEAR(got.noise_to_signal, want.noise_to_signal(), 1e-12);
  EXPECT_NEAR(got.noise_to_signal, measure(Measure::NoiseToSignal, want.b, a), 1e-12);
  EXPECT_NEAR(got.decibel(), -10 * std::log10(want.noise_to_signal()), 1e-9);
  EXPECT_NEAR(got.cosine, want.cosine(), 1e-12);
  EXPECT_NEAR(got.mean_squared_error, want.error().square().mean().item<double>(), 1e-12);
  EXPECT_DOUBLE_EQ(got.max_error, want.error().abs().max().item<double>());
  EXPECT_NEAR(got.mean_error, want.error().mean().item<double>(), 1e-12);
  EXPECT_NEAR(got.mean_absolute_error, want.error().abs().mean().item<double>(), 1e-12);
}

TEST(TensorErrorSums, CountsOnTheGrid) {
  const at::Tensor a = random({2, 400}, 4, 3);
  const at::Tensor codes = at::clamp(at::round(a * 16 + random({2, 400}, 3, 4)), -128, 127);
  const Formulas want{a, codes / 16};
  TensorErrorSums sums(kGrid);
  sums.add(a, want.b);
  const GridError got = sums.result().grid.value();
  const at::Tensor code = want.lsb(a), noise = want.error().square();
  const at::Tensor clipped = code.gt(127.5).logical_or(code.lt(-128.5));
  ASSERT_GT(clipped.sum().item<int64_t>(), 5);
  const at::Tensor saturated = want.lsb(want.b).ge(127).logical_or(want.lsb(want.b).le(-128));
  EXPECT_DOUBLE_EQ(got.clipped, clipped.to(at::kDouble).mean().item<double>());
  EXPECT_DOUBLE_EQ(got.saturated, saturated.to(at::kDouble).mean().item<double>());
  EXPECT_NEAR(got.clipped_noise, (noise * clipped).sum().item<double>() / noise.sum().item<double>(), 1e-12);
  EXPECT_NEAR(got.rounding_noise, 800 * std::ldexp(1.0, 2 * kExponent) / 12 / noise.sum().item<double>(), 1e-12);
  // The largest value decides which exponent would hold all: 2^(needed) * 127.5 >= max > 2^(needed - 1) * 127.5.
  const double most = std::max(a.max().item<double>() / 127.5, -a.min().item<double>() / 128.5);
  EXPECT_EQ(got.needed_exponent, static_cast<int>(std::ceil(std::log2(most))));

  const at::Tensor lsb = want.lsb(want.b) - want.lsb(a);
  ASSERT_EQ(got.error.counts.size(), 33u);
  for (int64_t i = 0; i < 33; ++i) {
    const double low = static_cast<double>(i) - 16.5;
    EXPECT_EQ(got.error.counts[i], lsb.ge(low).logical_and(lsb.lt(low + 1)).sum().item<int64_t>()) << i;
  }
  EXPECT_EQ(got.error.below, lsb.lt(-16.5).sum().item<int64_t>());
  EXPECT_EQ(got.error.above, lsb.ge(16.5).sum().item<int64_t>());
  // Intervals of four codes; the range -128.5 .. 127.5 is the 64 in the middle.
  ASSERT_EQ(got.values.counts.size(), 96u);
  for (int64_t i = 0; i < 96; ++i) {
    const double low = -128.5 - 64 + 4 * static_cast<double>(i);
    EXPECT_EQ(got.values.counts[i], code.ge(low).logical_and(code.lt(low + 4)).sum().item<int64_t>()) << i;
  }
}

TEST(TensorErrorSums, TellsSaturationFromClipping) {
  // 5 is inside the range of codes / 16 (up to 7.97), the result stands at its end; 9 lies outside.
  TensorErrorSums sums(kGrid);
  sums.add(at::tensor({5.0, 9.0, 1.0}), at::tensor({127.0 / 16, 127.0 / 16, 1.0}));
  const GridError grid = sums.result().grid.value();
  const double inside = std::pow(127.0 / 16 - 5, 2), outside = std::pow(9 - 127.0 / 16, 2);
  EXPECT_NEAR(grid.saturated_noise, inside / (inside + outside), 1e-12);
  EXPECT_NEAR(grid.clipped_noise, outside / (inside + outside), 1e-12);
}

TEST(TensorErrorSums, LeavesMasksOut) {
  TensorErrorSums sums({});
  sums.add(at::tensor({1.0, -INFINITY, -INFINITY}), at::tensor({1.0, -INFINITY, -128.0}));
  const TensorError got = sums.result();
  EXPECT_EQ(got.different, 1);
  EXPECT_EQ(got.max_error, 0);
  EXPECT_EQ(got.noise_to_signal, 0);
  EXPECT_FALSE(got.grid);
}

}  // namespace
}  // namespace espq
