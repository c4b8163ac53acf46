// Values and gradients against LibTorch's clamp.
#include "core/ops/training/clip_gradient.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

namespace espq {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Sizes that fill more than one thread's share, and no whole vectors; every bound is met, and a value is no number.
at::Tensor some_values() {
  at::Tensor values = (8 * at::randn({3, 5, 41, 77})).round() / 2;
  values.flatten()[17] = std::numeric_limits<float>::quiet_NaN();
  return values;
}

TEST(ClipGradients, EqualLibTorch) {
  const at::Tensor values = some_values(), gradient = at::randn(values.sizes());
  for (const ClipBounds bounds : {ClipBounds{0, 6}, ClipBounds{-1.5, kInfinity}, ClipBounds{-kInfinity, 2.5},
                                  ClipBounds{-kInfinity, kInfinity}, ClipBounds{2, 2}}) {
    const at::Tensor ours = values.clone().requires_grad_(), theirs = values.clone().requires_grad_();
    const at::Tensor got = clip_with_gradient(ours, bounds), want = at::clamp(theirs, bounds.low, bounds.high);
    ASSERT_TRUE(got.defined());
    EXPECT_TRUE(at::allclose(got, want, 0, 0, /*equal_nan=*/true)) << bounds.low << " to " << bounds.high;
    got.backward(gradient);
    want.backward(gradient);
    EXPECT_TRUE(at::equal(ours.grad(), theirs.grad())) << bounds.low << " to " << bounds.high;
  }
}

TEST(ClipGradients, EqualLibTorchInOtherOrdersOfMemory) {
  const at::Tensor values = some_values().contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor ours = values.clone().requires_grad_(), theirs = values.clone().requires_grad_();
  const at::Tensor gradient = at::randn(values.sizes());
  clip_with_gradient(ours, {0, 6}).backward(gradient);
  at::clamp(theirs, 0, 6).backward(gradient);
  EXPECT_TRUE(at::equal(ours.grad(), theirs.grad()));
}

TEST(ClipGradients, LeavesOtherOperandsToLibTorch) {
  EXPECT_FALSE(clip_with_gradient(at::zeros({4}), {0, 6}).defined());  // nothing to learn
  EXPECT_FALSE(clip_with_gradient(at::zeros({4}, at::kDouble).requires_grad_(), {0, 6}).defined());
  EXPECT_FALSE(clip_with_gradient(at::zeros({8, 4}).requires_grad_().slice(1, 0, 4, 2), {0, 6}).defined());
}

}  // namespace
}  // namespace espq
