// Values and gradients against LibTorch's operators one by one.
#include "core/ops/training/swish_gradient.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/quant/quantize_gradient.h"

namespace espq {
namespace {

TEST(SwishGradients, EqualLibTorch) {
  const at::Tensor values = 8 * at::randn({3, 5, 41, 77});  // more than one thread's share, no whole vectors
  const at::Tensor ours = values.clone().requires_grad_(), theirs = values.clone().requires_grad_();
  const at::Tensor got = swish_with_gradient(ours), want = theirs * at::sigmoid(theirs);
  ASSERT_TRUE(got.defined());
  EXPECT_TRUE(at::equal(got, want));
  const at::Tensor gradient = at::randn(values.sizes());
  got.backward(gradient);
  want.backward(gradient);
  EXPECT_TRUE(at::allclose(ours.grad(), theirs.grad(), 1e-5, 1e-6));
}

TEST(SwishGradients, RoundLikeTheRoundingBehindThem) {
  const at::Tensor values = 8 * at::randn({3, 5, 41, 77});
  const at::Tensor gradient = at::randn(values.sizes());
  for (const Rounding rounding : {Rounding::HalfEven, Rounding::HalfUp})
    for (const bool relu : {false, true}) {
      const at::Tensor ours = values.clone().requires_grad_(), theirs = values.clone().requires_grad_();
      const GridRounding slot{.grid = {8, {-3}}, .rounding = rounding};
      const at::Tensor got = swish_with_gradient(ours, row_rounding(slot, relu));
      const at::Tensor want = fake_quantize_with_gradient(swish_with_gradient(theirs), slot, {}, relu);
      EXPECT_TRUE(at::equal(got, want));
      got.backward(gradient);
      want.backward(gradient);
      EXPECT_TRUE(at::equal(ours.grad(), theirs.grad()));
      EXPECT_GT(ours.grad().eq(0).sum().item<int64_t>(), 100);  // some were cut off
    }
}

TEST(SwishGradients, LeavesOtherOperandsToLibTorch) {
  EXPECT_FALSE(swish_with_gradient(at::zeros({4}, at::kDouble)).defined());
  EXPECT_FALSE(swish_with_gradient(at::zeros({3, 4}).t()).defined());
}

}  // namespace
}  // namespace espq
