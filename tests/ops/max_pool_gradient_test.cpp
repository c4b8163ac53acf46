// Values and gradients against LibTorch's pool, with many equal values.
#include "core/ops/training/max_pool_gradient.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace espq {
namespace {

using Ints = std::vector<int64_t>;

struct Case {
  const char* name;
  Shape input;
  Ints kernel, strides, dilations, padding;
};

class MaxPoolGradients : public ::testing::TestWithParam<Case> {};

TEST_P(MaxPoolGradients, EqualLibTorch) {
  const Case& c = GetParam();
  at::Tensor values = at::randint(-2, 3, c.input, at::kFloat);
  values[0][0][1][1] = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor ours = values.clone().requires_grad_(), theirs = values.clone().requires_grad_();
  const at::Tensor got = max_pool_with_gradient(ours, {c.kernel, c.strides, c.dilations, c.padding, c.padding});
  const at::Tensor want = at::max_pool2d(theirs, c.kernel, c.strides, c.padding, c.dilations);
  ASSERT_TRUE(got.defined());
  EXPECT_TRUE(at::allclose(got, want, 0, 0, true));
  const at::Tensor gradient = at::randint(-8, 8, want.sizes(), at::kFloat);
  got.backward(gradient);
  want.backward(gradient);
  EXPECT_TRUE(at::equal(ours.grad(), theirs.grad()));
}

INSTANTIATE_TEST_SUITE_P(Windows, MaxPoolGradients,
                         ::testing::Values(Case{"halves", {3, 4, 8, 10}, {2, 2}, {2, 2}, {1, 1}, {0, 0}},
                                           Case{"halves_of_pairs", {3, 4, 6, 4}, {2, 2}, {2, 2}, {1, 1}, {0, 0}},
                                           Case{"halves_with_rest", {3, 4, 9, 9}, {2, 2}, {2, 2}, {1, 1}, {0, 0}},
                                           Case{"odd_halves", {3, 4, 8, 6}, {2, 2}, {2, 2}, {1, 1}, {0, 0}},
                                           Case{"2x2_apart", {3, 4, 8, 9}, {2, 2}, {3, 1}, {1, 1}, {0, 0}},
                                           Case{"overlapping", {2, 3, 9, 9}, {3, 3}, {2, 2}, {1, 1}, {1, 1}},
                                           Case{"same", {1, 2, 7, 6}, {5, 5}, {1, 1}, {1, 1}, {2, 2}},
                                           Case{"uneven", {2, 2, 10, 13}, {2, 4}, {3, 1}, {1, 1}, {0, 2}},
                                           Case{"dilated", {2, 2, 11, 12}, {3, 2}, {1, 3}, {2, 3}, {1, 1}}),
                         [](const auto& info) { return info.param.name; });

TEST(MaxPoolGradients, LeavesOtherOperandsToLibTorch) {
  const Window window{{2, 2}, {2, 2}, {1, 1}, {0, 0}, {0, 0}};
  EXPECT_FALSE(max_pool_with_gradient(at::zeros({1, 1, 4, 4}, at::kDouble), window).defined());
  EXPECT_FALSE(max_pool_with_gradient(at::zeros({1, 1, 1, 4}), window).defined());
}

}  // namespace
}  // namespace espq
