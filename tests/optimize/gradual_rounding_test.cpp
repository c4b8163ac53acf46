#include "passes/optimize/gradual_rounding.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/quant/fake_quantize.h"
#include "core/quant/quantize_gradient.h"

namespace espq {
namespace {

GridRounding grid() { return {.grid = {8, {-4}}, .channel_axis = -1, .rounding = Rounding::HalfEven}; }

TEST(GradualRounding, RoundsSoLargeAShareAndPassesTheRest) {
  at::manual_seed(2);
  const at::Tensor value = at::randn({64, 1000}) * 5, rounded = fake_quantize(value, {-4}, -1, 8, Rounding::HalfEven);
  for (const double share : {0.0, 0.25, 0.8, 1.0}) {
    const auto state = std::make_shared<RoundedShare>(RoundedShare{share, 3});
    const at::Tensor result = GradualRounding(grid(), {}, state, 1).round(value);
    const at::Tensor is_rounded = result.eq(rounded), is_passed = result.eq(value);
    EXPECT_TRUE(is_rounded.logical_or(is_passed).all().item<bool>());
    EXPECT_NEAR(is_rounded.to(at::kDouble).mean().item<double>(), share, 0.01);
  }
}

TEST(GradualRounding, IsAFunctionOfSeedAndSlot) {
  const at::Tensor value = at::rand({5000});
  const auto of = [&](uint64_t seed, uint64_t slot) {
    return GradualRounding(grid(), {}, std::make_shared<RoundedShare>(RoundedShare{0.5, seed}), slot).round(value);
  };
  EXPECT_TRUE(at::equal(of(3, 1), of(3, 1)));
  EXPECT_FALSE(at::equal(of(3, 1), of(4, 1)));
  EXPECT_FALSE(at::equal(of(3, 1), of(3, 2)));
}

/// Where a value is rounded its gradient and the exponent's are those of full rounding, elsewhere 1 and 0.
TEST(GradualRounding, GradientsGoWhereTheValueWent) {
  const auto state = std::make_shared<RoundedShare>(RoundedShare{0.5, 9});
  const at::Tensor value = (at::rand({4000}) * 30 - 15).requires_grad_(true);  // a part is clipped
  const at::Tensor exponent = at::full({1}, -4.0f).requires_grad_(true);
  const at::Tensor result = GradualRounding(grid(), exponent, state, 1).round(value);
  const at::Tensor weights = at::rand({4000});
  (result * weights).sum().backward();
  const at::Tensor plain = value.detach().clone().requires_grad_(true);
  const at::Tensor rounded = fake_quantize(plain.detach(), {-4}, -1, 8, Rounding::HalfEven);
  const at::Tensor chosen = result.detach().eq(rounded).to(at::kFloat);
  const at::Tensor same = at::full({1}, -4.0f).requires_grad_(true);
  (fake_quantize_with_gradient(plain, grid(), same) * (weights * chosen)).sum().backward();
  EXPECT_TRUE(at::allclose(value.grad(), plain.grad() + weights * (1 - chosen)));
  EXPECT_TRUE(at::allclose(exponent.grad(), same.grad(), 1e-4));
}

}  // namespace
}  // namespace espq
