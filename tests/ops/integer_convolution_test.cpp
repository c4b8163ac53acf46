#include "core/ops/kernels/integer_convolution.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/ops/kernels/integer_depthwise.h"

// The integer kernels of Board precision against sums of int64 products, one by one.
namespace espq {
namespace {

/// A convolution, or with no spatial axes a product with a matrix. Codes of `input_bits` and `filter_bits`.
struct Case {
  const char* name;
  Shape input;  ///< [N, C, spatial...]
  int64_t filters;
  Window window;
  int64_t groups = 1;
  int input_bits = 8, filter_bits = 8;
  bool extreme = false;  ///< the codes with the largest magnitude everywhere: sums as large as they get
};

Window window(std::vector<int64_t> kernel, std::vector<int64_t> strides, std::vector<int64_t> begin,
              std::vector<int64_t> end, std::vector<int64_t> dilations) {
  return {std::move(kernel), std::move(strides), std::move(dilations), std::move(begin), std::move(end)};
}

at::Tensor codes(at::IntArrayRef shape, int bits, bool extreme) {
  const int64_t largest = int64_t{1} << (bits - 1);
  if (extreme) return at::full(shape, -largest, at::kFloat);
  return at::randint(-largest, largest, shape).to(at::kFloat);
}

/// Plain loops over int64.
at::Tensor reference(const Case& c, const at::Tensor& input, const at::Tensor& filters) {
  const size_t rank = c.window.rank();
  const auto at_axis = [&](const std::vector<int64_t>& values, size_t axis, int64_t otherwise) {
    return axis + rank >= 2 ? values[axis + rank - 2] : otherwise;
  };
  const auto planes = [&](at::Tensor tensor) {
    tensor = tensor.to(at::kLong);
    if (rank == 1) return tensor.unsqueeze(2);
    return rank == 0 ? tensor.unsqueeze(2).unsqueeze(3) : tensor;
  };
  const at::Tensor from = planes(input), weights = planes(filters);
  int64_t output[2];
  for (size_t axis = 0; axis < 2; ++axis)
    output[axis] =
        (from.size(static_cast<int64_t>(axis) + 2) + at_axis(c.window.begin, axis, 0) + at_axis(c.window.end, axis, 0) -
         (at_axis(c.window.dilations, axis, 1) * (weights.size(static_cast<int64_t>(axis) + 2) - 1) + 1)) /
            at_axis(c.window.strides, axis, 1) +
        1;
  at::Tensor result = at::zeros({from.size(0), c.filters, output[0], output[1]}, at::kLong);
  const auto x = from.accessor<int64_t, 4>(), w = weights.accessor<int64_t, 4>();
  auto sum = result.accessor<int64_t, 4>();
  const int64_t depth = weights.size(1), group = c.filters / c.groups;
  for (int64_t n = 0; n < from.size(0); ++n)
    for (int64_t m = 0; m < c.filters; ++m)
      for (int64_t oy = 0; oy < output[0]; ++oy)
        for (int64_t ox = 0; ox < output[1]; ++ox)
          for (int64_t ky = 0; ky < weights.size(2); ++ky)
            for (int64_t kx = 0; kx < weights.size(3); ++kx) {
              const int64_t y = oy * at_axis(c.window.strides, 0, 1) - at_axis(c.window.begin, 0, 0) +
                                ky * at_axis(c.window.dilations, 0, 1);
              const int64_t column = ox * at_axis(c.window.strides, 1, 1) - at_axis(c.window.begin, 1, 0) +
                                     kx * at_axis(c.window.dilations, 1, 1);
              if (y < 0 || y >= from.size(2) || column < 0 || column >= from.size(3)) continue;
              for (int64_t d = 0; d < depth; ++d)
                sum[n][m][oy][ox] += x[n][m / group * depth + d][y][column] * w[m][d][ky][kx];
            }
  return rank == 2 ? result : rank == 1 ? result.squeeze(2) : result.squeeze(3).squeeze(2);
}

const std::vector<Case> kCases = {
    {"stem", {2, 3, 9, 11}, 17, window({3, 3}, {2, 2}, {0, 0}, {1, 1}, {1, 1})},
    {"point", {3, 24, 5, 7}, 40, window({1, 1}, {1, 1}, {0, 0}, {0, 0}, {1, 1})},
    {"point_16bit", {1, 33, 5, 7}, 80, window({1, 1}, {1, 1}, {0, 0}, {0, 0}, {1, 1}), 1, 16, 16},
    {"odd_channels", {1, 5, 8, 8}, 16, window({3, 2}, {1, 1}, {1, 0}, {1, 1}, {1, 1}), 1, 16, 16},
    {"dilated", {1, 7, 12, 10}, 19, window({3, 3}, {1, 2}, {2, 2}, {2, 2}, {2, 2}), 1, 16, 16},
    {"stride_over_points", {1, 6, 9, 9}, 33, window({1, 1}, {2, 2}, {0, 0}, {0, 0}, {1, 1}), 1, 8, 8},
    {"one_position", {1, 20, 3, 3}, 65, window({3, 3}, {1, 1}, {0, 0}, {0, 0}, {1, 1}), 1, 16, 8},
    {"rows_1d", {2, 4, 30}, 24, window({5}, {2}, {2}, {2}, {1}), 1, 16, 16},
    {"matrix", {13, 50}, 70, {}, 1, 16, 16},
    {"matrix_8bit", {50, 13}, 10, {}},
    {"grouped", {1, 32, 6, 6}, 64, window({3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}), 2, 16, 16},
    {"longest_8bit", {2, 4000}, 18, {}, 1, 8, 8, true},
    {"longest_w8a16", {2, 3000}, 18, {}, 1, 16, 8, true},
    {"longest_16bit", {2, 3000}, 18, {}, 1, 16, 16, true},
    {"small_weights_at_16bit", {1, 30, 4, 4}, 16, window({1, 1}, {1, 1}, {0, 0}, {0, 0}, {1, 1}), 1, 16, 10},
};

/// Something of every sum that a float can hold, and of where it stands.
void remainders(const IntegerSums& sums, float* out, int64_t pitch) {
  std::vector<double> row(static_cast<size_t>(sums.columns));
  for (int64_t i = 0; i < sums.rows; ++i) {
    copy_sums(sums, i, row.data());
    for (int64_t column = 0; column < sums.columns; ++column)
      out[i * pitch + column] = static_cast<float>(std::remainder(row[static_cast<size_t>(column)], 4093.0) +
                                                   static_cast<double>(sums.first + column));
  }
}

at::Tensor remainders_of(const at::Tensor& sums) {
  std::vector<int64_t> along(static_cast<size_t>(sums.dim()), 1);
  along[1] = sums.size(1);
  const at::Tensor values = sums.to(at::kDouble);
  return (values - (values / 4093).round() * 4093 + at::arange(sums.size(1)).reshape(along)).to(at::kFloat);
}

TEST(IntegerConvolution, SumsAreThoseOfIntegers) {
  ASSERT_FALSE(all_integer_kernels().empty()) << "this processor has no kernels to test";
  at::manual_seed(3);
  for (const IntegerKernels* kernels : all_integer_kernels())
    for (const Case& c : kCases) {
      SCOPED_TRACE(fmt::format("{}, {} lanes", c.name, kernels->lanes));
      Shape shape = {c.filters, c.input[1] / c.groups};
      shape.insert(shape.end(), c.window.kernel.begin(), c.window.kernel.end());
      const at::Tensor input = codes(c.input, c.input_bits, c.extreme),
                       filters = codes(shape, c.filter_bits, c.extreme);
      ASSERT_TRUE(IntegerConvolution::supports(c.window, c.groups, filters));
      const double limit = static_cast<double>(int64_t{1} << (c.input_bits - 1));
      const IntegerConvolution convolution(c.window, c.groups, filters, limit, kernels);
      const at::Tensor want = reference(c, input, filters), got = convolution.sums(input);
      ASSERT_EQ(got.sizes(), want.sizes());
      EXPECT_TRUE(got.to(at::kLong).equal(want));
      // In any memory order, and handed out piece by piece.
      const at::Tensor last = input.dim() > 2 ? input.movedim(1, -1).contiguous().movedim(-1, 1) : input;
      const at::Tensor run = convolution.run(last, remainders);
      EXPECT_TRUE(run.equal(remainders_of(want)));
    }
}

TEST(IntegerConvolution, ChoosesTheCheapestFormThatHoldsTheSums) {
  const auto form = [](int64_t length, int bits, double limit) {
    std::string seen;
    const at::Tensor filters = codes({4, length}, bits, true);
    IntegerConvolution({}, 1, filters, limit)
        .run(at::zeros({1, length}), [&](const IntegerSums& sums, float*, int64_t) {
          seen = sums.doubles ? "pieces" : sums.lanes ? "halves" : "whole";
        });
    return seen;
  };
  EXPECT_EQ(form(1000, 8, 128), "whole");
  EXPECT_EQ(form(500, 8, 32768), "whole");  // 500 * 128 * 32768 < 2^31
  EXPECT_EQ(form(513, 8, 32768), "pieces");
  EXPECT_EQ(form(100, 16, 32768), "halves");
  EXPECT_EQ(form(600, 16, 32768), "pieces");  // high halves of -128
  EXPECT_EQ(form(100, 10, 32768), "whole");
}

TEST(IntegerDepthwise, SumsAreThoseOfIntegers) {
  at::manual_seed(4);
  const std::vector<Case> cases = {
      {"plain", {2, 48, 7, 9}, 48, window({3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}), 48},
      {"plain_16bit", {2, 48, 7, 9}, 48, window({5, 5}, {1, 1}, {2, 2}, {2, 2}, {1, 1}), 48, 16, 16},
      {"strides", {1, 33, 9, 8}, 33, window({5, 3}, {2, 1}, {2, 1}, {2, 1}, {1, 1}), 33, 16, 16},
      {"wide_strides", {1, 16, 11, 12}, 16, window({2, 2}, {3, 2}, {0, 1}, {1, 0}, {1, 1}), 16, 16, 16},
      {"dilated", {1, 19, 9, 8}, 19, window({3, 3}, {1, 2}, {2, 3}, {2, 1}, {2, 2}), 19, 16, 16},
      {"dilated_strides", {1, 16, 13, 8}, 16, window({3, 3}, {4, 2}, {2, 3}, {2, 1}, {3, 2}), 16, 16, 16},
      {"padding_only", {1, 16, 1, 2}, 16, window({3, 3}, {3, 3}, {4, 4}, {4, 4}, {1, 1}), 16},
      {"one_row", {1, 5, 4, 11}, 5, window({1, 5}, {1, 2}, {0, 2}, {0, 2}, {1, 1}), 5, 16, 16},
      {"rows_1d", {2, 24, 15}, 24, window({4}, {1}, {0}, {3}, {1}), 24, 16, 8},
      {"dilated_1d", {2, 3, 15}, 3, window({3}, {1}, {2}, {2}, {2}), 3, 16, 16},
      {"extreme", {1, 16, 9, 9}, 16, window({7, 7}, {1, 1}, {3, 3}, {3, 3}, {1, 1}), 16, 16, 16, true},
  };
  for (const IntegerKernels* kernels : all_integer_kernels())
    for (const Case& c : cases) {
      SCOPED_TRACE(fmt::format("{}, {} lanes", c.name, kernels->lanes));
      Shape shape = {c.filters, 1};
      shape.insert(shape.end(), c.window.kernel.begin(), c.window.kernel.end());
      const at::Tensor input = codes(c.input, c.input_bits, c.extreme),
                       filters = codes(shape, c.filter_bits, c.extreme);
      const double limit = static_cast<double>(int64_t{1} << (c.input_bits - 1));
      ASSERT_TRUE(IntegerDepthwise::supports(c.window, c.groups, filters, limit));
      const IntegerDepthwise convolution(c.window, filters, limit, kernels);
      const at::Tensor want = reference(c, input, filters), got = convolution.sums(input);
      ASSERT_EQ(got.sizes(), want.sizes());
      EXPECT_TRUE(got.to(at::kLong).equal(want));
      EXPECT_TRUE(convolution.run(input, remainders).equal(remainders_of(want)));
    }
}

}  // namespace
}  // namespace espq
