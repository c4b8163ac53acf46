#include <gtest/gtest.h>

#include "core/support/error.h"
#include "tests/ops/node_run.h"

using namespace espq;

namespace {

using Ints = std::vector<int64_t>;

at::Tensor ramp(at::IntArrayRef shape) {
  int64_t count = 1;
  for (int64_t length : shape) count *= length;
  return at::arange(1, count + 1, at::kFloat).reshape(shape);
}

}  // namespace

// ceil_mode drops a window that would start in the padding behind: 1..4, kernel 1, stride 2 keeps two windows.
TEST(MaxPool, CeilModeKeepsOnlyWindowsThatStartInside) {
  EXPECT_TRUE(at::equal(run_one("MaxPool", {ramp({1, 1, 5})},
                                {{"kernel_shape", Ints{2}}, {"strides", Ints{2}}, {"ceil_mode", int64_t{1}}})
                            .flatten(),
                        at::tensor({2.f, 4.f, 5.f})));
  EXPECT_EQ(run_one("MaxPool", {ramp({1, 1, 4})},
                    {{"kernel_shape", Ints{1}}, {"strides", Ints{2}}, {"ceil_mode", int64_t{1}}})
                .numel(),
            2);
}

TEST(MaxPool, UnevenPaddingNeverWins) {
  const at::Tensor x = -ramp({1, 1, 3, 3});
  const at::Tensor y = run_one("MaxPool", {x}, {{"kernel_shape", Ints{2, 2}}, {"pads", Ints{1, 0, 0, 1}}});
  const at::Tensor want = at::tensor({-1.f, -2.f, -3.f, -1.f, -2.f, -3.f, -4.f, -5.f, -6.f}).reshape({1, 1, 3, 3});
  EXPECT_TRUE(at::equal(y, want));
}

TEST(MaxPool, IndicesCountThroughTheWholeInput) {
  const at::Tensor x = ramp({2, 2, 3, 3});
  const Tensors y = run_node("MaxPool", {x}, {{"kernel_shape", Ints{2, 2}}, {"pads", Ints{0, 1, 1, 0}}}, false, 2);
  EXPECT_TRUE(at::equal(y[1], y[0].to(at::kLong) - 1));  // the ramp's value is its index plus one
  const Tensors columns =
      run_node("MaxPool", {x}, {{"kernel_shape", Ints{2, 2}}, {"storage_order", int64_t{1}}}, false, 2);
  EXPECT_TRUE(at::equal(columns[1].flatten().slice(0, 0, 4), at::tensor({4, 7, 5, 8})));
}

TEST(MaxPool, DilationInEveryRank) {
  const at::Tensor x = at::randn({1, 3, 11});
  EXPECT_TRUE(at::equal(run_one("MaxPool", {x}, {{"kernel_shape", Ints{3}}, {"dilations", Ints{2}}}),
                        at::max_pool1d(x, {3}, {1}, at::IntArrayRef{0}, {2})));
  const at::Tensor volume = at::randn({1, 2, 5, 6, 7});
  EXPECT_TRUE(
      at::equal(run_one("MaxPool", {volume}, {{"kernel_shape", Ints{2, 3, 2}}, {"pads", Ints{1, 1, 1, 1, 1, 1}}}),
                at::max_pool3d(volume, {2, 3, 2}, {1, 1, 1}, {1, 1, 1})));
}

TEST(AveragePool, PaddingCountsOnlyWhenAsked) {
  const at::Tensor x = at::ones({1, 1, 2, 2});
  const AttributeMap window = {{"kernel_shape", Ints{2, 2}}, {"pads", Ints{1, 1, 0, 0}}};
  EXPECT_TRUE(at::equal(run_one("AveragePool", {x}, window), at::ones({1, 1, 2, 2})));
  AttributeMap counted = window;
  counted["count_include_pad"] = int64_t{1};
  const at::Tensor want = at::tensor({0.25f, 0.5f, 0.5f, 1.f}).reshape({1, 1, 2, 2});
  EXPECT_TRUE(at::equal(run_one("AveragePool", {x}, counted), want));
  EXPECT_TRUE(at::equal(run_node("AveragePool", {x}, window, true)[0], want));  // the chip always counts
}

// 1..5, kernel 2, stride 2: the last window holds one element, which the standard divides by 1 and the chip by 2.
TEST(AveragePool, CeilModeDividesByWhatIsThere) {
  const AttributeMap window = {
      {"kernel_shape", Ints{2}}, {"strides", Ints{2}}, {"ceil_mode", int64_t{1}}, {"count_include_pad", int64_t{1}}};
  const at::Tensor x = ramp({1, 1, 5});
  EXPECT_TRUE(at::equal(run_one("AveragePool", {x}, window).flatten(), at::tensor({1.5f, 3.5f, 5.f})));
  EXPECT_TRUE(at::equal(run_node("AveragePool", {x}, window, true)[0].flatten(), at::tensor({1.5f, 3.5f, 2.5f})));
  AttributeMap uneven = window;  // the same through the general path
  uneven["pads"] = Ints{0, 1};
  EXPECT_TRUE(at::equal(run_one("AveragePool", {x}, uneven).flatten(), at::tensor({1.5f, 3.5f, 2.5f})));
}

TEST(AveragePool, DilatedWindows) {
  const at::Tensor y = run_one("AveragePool", {ramp({1, 2, 5})}, {{"kernel_shape", Ints{2}}, {"dilations", Ints{3}}});
  EXPECT_TRUE(at::equal(y.flatten(), at::tensor({2.5f, 3.5f, 7.5f, 8.5f})));
}

TEST(Reduce, AxesFromOperandAttributeOrNone) {
  const at::Tensor x = ramp({2, 3, 4});
  EXPECT_TRUE(at::allclose(run_one("ReduceMean", {x, at::tensor({-1}, at::kLong)}), x.mean(-1, true)));
  EXPECT_TRUE(
      at::allclose(run_one("ReduceMax", {x}, {{"axes", Ints{2, 0}}, {"keepdims", int64_t{0}}}), at::amax(x, {0, 2})));
  EXPECT_EQ(run_one("ReduceSum", {x}).sizes(), (at::IntArrayRef{1, 1, 1}));
  EXPECT_TRUE(at::equal(run_one("ReduceSum", {x}, {{"noop_with_empty_axes", int64_t{1}}}), x));
  EXPECT_THROW(run_one("ReduceSum", {x, at::tensor({3}, at::kLong)}), UserError);
}

TEST(Reduce, EmptyAxesOfTheInputGiveTheNeutralElement) {
  const at::Tensor x = at::empty({2, 0});
  const at::Tensor axes = at::tensor({1}, at::kLong);
  EXPECT_TRUE(at::isneginf(run_one("ReduceMax", {x, axes})).all().item<bool>());
  EXPECT_TRUE(at::equal(run_one("ReduceProd", {x, axes}), at::ones({2, 1})));
}

TEST(Reduce, LogSumExpOfLargeValuesIsFinite) {
  EXPECT_TRUE(at::allclose(run_one("ReduceLogSumExp", {at::full({1, 2}, 1000.0f)}),
                           at::full({1, 1}, 1000.0f + std::log(2.0f))));
}
