// Values and gradients against LibTorch's convolution.
#include "core/ops/kernels/plane_convolution.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/ops/conv.h"

namespace espq {
namespace {

struct Case {
  const char* name;
  Shape input, filters;
  int64_t groups;
  std::vector<int64_t> strides, dilations, begin, end;
};

class PlaneConvolutions : public ::testing::TestWithParam<Case> {};

TEST_P(PlaneConvolutions, EqualLibTorch) {
  const Case& c = GetParam();
  const Window window{{c.filters.begin() + 2, c.filters.end()}, c.strides, c.dilations, c.begin, c.end};
  // Integers: sums are exact in any order.
  const at::Tensor input = at::randint(-128, 128, c.input, at::kFloat).requires_grad_();
  const at::Tensor filters = at::randint(-8, 8, c.filters, at::kFloat).requires_grad_();
  const at::Tensor bias = at::randint(-999, 999, {c.filters[0]}, at::kFloat).requires_grad_();
  if (!PlaneConvolution::supports(window, input, filters)) GTEST_SKIP() << "needs AVX2 and FMA";
  const at::Tensor want = convolve(window, c.groups, input, filters, bias);
  const at::Tensor gradient = at::randint(-8, 8, want.sizes(), at::kFloat);
  want.backward(gradient);

  for (const PlaneKernels* kernels : plane_kernels()) {
    const PlaneConvolution convolution(window, c.groups, input.sizes(), filters.sizes(), kernels);
    const at::Tensor planes = convolution.pack_input(input.detach());
    const at::Tensor got = at::full_like(want.detach(), 7), back = at::full_like(input.detach(), 7);
    convolution.forward(planes, filters.detach(), bias.detach(), nullptr, got);
    EXPECT_TRUE(at::equal(got, want));
    const at::Tensor gradients = convolution.pack_gradient(gradient, nullptr);
    EXPECT_TRUE(at::equal(convolution.bias_gradient(gradients), bias.grad()));
    EXPECT_TRUE(at::equal(convolution.filter_gradient(gradients, planes), filters.grad()));
    convolution.input_gradient(gradients, filters.detach(), back);
    EXPECT_TRUE(at::equal(back, input.grad()));
    // Half of the results, and of their gradients, are struck out on the way.
    const at::Tensor kept = at::randint(0, 2, {c.filters[0], convolution.plane_length()}, at::kByte);
    const PlaneConvolution::Finish strike = [&](float* values, int64_t begin, int64_t count) {
      for (int64_t i = 0; i < count; ++i) values[i] *= kept.data_ptr<uint8_t>()[begin + i];
    };
    const at::Tensor mask = at::empty_like(gradient), struck = at::empty_like(gradient);
    convolution.forward(planes, at::zeros_like(filters.detach()), at::ones_like(bias.detach()), strike, mask);
    convolution.forward(planes, filters.detach(), bias.detach(), strike, struck);
    EXPECT_TRUE(at::equal(struck, want.detach() * mask));
    const at::Tensor before = gradient.clone();
    EXPECT_TRUE(at::equal(convolution.bias_gradient(convolution.pack_gradient(gradient, strike)),
                          (gradient * mask).transpose(0, 1).flatten(1).sum(1)));
    EXPECT_TRUE(at::equal(gradient, before));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, PlaneConvolutions,
    ::testing::Values(Case{"same", {3, 5, 9, 11}, {7, 5, 3, 3}, 1, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
                      Case{"point", {2, 9, 6, 7}, {6, 9, 1, 1}, 1, {1, 1}, {1, 1}, {0, 0}, {0, 0}},
                      Case{"dense_point", {1, 9, 12, 8}, {11, 9, 1, 1}, 1, {1, 1}, {1, 1}, {0, 0}, {0, 0}},
                      Case{"dense_point_large", {1, 20, 40, 30}, {17, 20, 1, 1}, 1, {1, 1}, {1, 1}, {0, 0}, {0, 0}},
                      Case{"dense_groups", {1, 12, 4, 8}, {6, 4, 1, 1}, 3, {1, 1}, {1, 1}, {0, 0}, {0, 0}},
                      Case{"dense_line", {1, 5, 48}, {4, 5, 1}, 1, {1}, {1}, {0}, {0}},
                      Case{"padded_point", {2, 3, 5, 5}, {2, 3, 1, 1}, 1, {1, 1}, {1, 1}, {1, 2}, {2, 1}},
                      Case{"strided_point", {2, 3, 9, 8}, {5, 3, 1, 1}, 1, {2, 3}, {1, 1}, {0, 0}, {0, 0}},
                      Case{"depthwise", {4, 6, 8, 8}, {6, 1, 3, 3}, 6, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
                      Case{"multiplier", {2, 3, 10, 7}, {6, 1, 5, 5}, 3, {2, 2}, {1, 1}, {2, 2}, {2, 2}},
                      Case{"groups", {2, 8, 7, 7}, {12, 4, 3, 3}, 2, {1, 1}, {1, 1}, {0, 0}, {0, 0}},
                      Case{"strided", {2, 3, 17, 16}, {16, 3, 3, 3}, 1, {2, 2}, {1, 1}, {1, 1}, {1, 1}},
                      Case{"strided_5", {1, 4, 13, 14}, {3, 4, 5, 5}, 1, {3, 2}, {1, 1}, {2, 1}, {0, 3}},
                      Case{"dilated", {2, 4, 12, 13}, {5, 4, 3, 3}, 1, {1, 1}, {2, 3}, {2, 3}, {2, 3}},
                      Case{"dilated_strided", {2, 2, 15, 15}, {3, 2, 3, 3}, 1, {2, 2}, {3, 2}, {1, 4}, {4, 0}},
                      Case{"wide_padding", {1, 2, 4, 4}, {2, 2, 3, 3}, 1, {1, 1}, {1, 1}, {4, 5}, {5, 3}},
                      Case{"large", {2, 24, 40, 41}, {10, 24, 3, 3}, 1, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
                      Case{"line", {3, 5, 40}, {4, 5, 7}, 1, {1}, {2}, {6}, {6}},
                      Case{"line_strided", {2, 4, 33}, {8, 2, 4}, 2, {2}, {1}, {1}, {2}},
                      Case{"kernel_is_picture", {3, 4, 5, 6}, {7, 4, 5, 6}, 1, {1, 1}, {1, 1}, {0, 0}, {0, 0}}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace espq
