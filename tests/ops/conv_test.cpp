#include <gtest/gtest.h>

#include "core/ops/operator.h"
#include "core/ops/window.h"
#include "core/support/error.h"

using namespace espq;

namespace {

at::Tensor run(const std::string& type, const Tensors& inputs, AttributeMap attributes) {
  Graph graph;
  Operation& operation = graph.add_operation(type, "node", {}, {}, std::move(attributes));
  normalize_attributes(operation);
  return definition_of(operation).forward({operation}, inputs).at(0);
}

using Ints = std::vector<int64_t>;

}  // namespace

TEST(ConvForward, AsymmetricPadsAreZerosAround) {
  const at::Tensor x = at::randn({1, 3, 7, 5}), w = at::randn({4, 3, 3, 2}), b = at::randn({4});
  const at::Tensor y = run("Conv", {x, w, b}, {{"pads", Ints{0, 1, 2, 0}}, {"strides", Ints{2, 1}}});
  const at::Tensor want = at::conv2d(at::constant_pad_nd(x, {1, 0, 0, 2}), w, b, {2, 1});
  EXPECT_TRUE(at::allclose(y, want));
}

TEST(PadSpatial, EqualsLibTorchsPadding) {
  const at::Tensor x = at::randn({2, 3, 7, 5}), last = x.contiguous(at::MemoryFormat::ChannelsLast);
  for (const at::Tensor& input : {x, last, x.transpose(2, 3)})
    for (const auto& [begin, end] : {std::pair{Ints{1, 0}, Ints{2, 3}}, std::pair{Ints{0, 0}, Ints{0, 1}},
                                     std::pair{Ints{-1, 2}, Ints{0, -2}}, std::pair{Ints{0, 0}, Ints{0, 0}}}) {
      const at::Tensor got = pad_spatial(input, begin, end, 1.5);
      EXPECT_TRUE(at::equal(got, at::constant_pad_nd(input, {begin[1], end[1], begin[0], end[0]}, 1.5)));
      EXPECT_EQ(got.suggest_memory_format(), input.suggest_memory_format());
    }
  const at::Tensor row = at::randn({1, 2, 9});
  EXPECT_TRUE(at::equal(pad_spatial(row, {2}, {1}, -1), at::constant_pad_nd(row, {2, 1}, -1)));
}

// The SAME rule of the standard: ceil(n / stride) outputs, the odd element of padding behind (UPPER) or in front.
TEST(ConvForward, SamePaddingPutsTheOddElementWhereTheNameSays) {
  const at::Tensor x = at::arange(1, 7, at::kFloat).reshape({1, 1, 6}), w = at::ones({1, 1, 2});
  const at::Tensor upper = run("Conv", {x, w}, {{"auto_pad", std::string("SAME_UPPER")}});
  const at::Tensor lower = run("Conv", {x, w}, {{"auto_pad", std::string("SAME_LOWER")}});
  EXPECT_TRUE(at::equal(upper.flatten(), at::tensor({3.f, 5.f, 7.f, 9.f, 11.f, 6.f})));
  EXPECT_TRUE(at::equal(lower.flatten(), at::tensor({1.f, 3.f, 5.f, 7.f, 9.f, 11.f})));
}

// A stride larger than the kernel needs no padding at all.
TEST(ConvForward, SamePaddingIsNeverNegative) {
  const at::Tensor x = at::arange(1, 8, at::kFloat).reshape({1, 1, 7}), w = at::ones({1, 1, 1});
  const at::Tensor y = run("Conv", {x, w}, {{"auto_pad", std::string("SAME_UPPER")}, {"strides", Ints{3}}});
  EXPECT_TRUE(at::equal(y.flatten(), at::tensor({1.f, 4.f, 7.f})));
}

TEST(ConvForward, GroupsAndDilationsIn1dAnd3d) {
  const at::Tensor x = at::randn({2, 4, 9}), w = at::randn({6, 2, 3});
  EXPECT_TRUE(at::allclose(run("Conv", {x, w}, {{"group", int64_t{2}}, {"dilations", Ints{2}}}),
                           at::conv1d(x, w, {}, {1}, at::IntArrayRef{0}, {2}, 2)));
  const at::Tensor x3 = at::randn({1, 2, 4, 5, 6}), w3 = at::randn({3, 2, 2, 2, 2});
  EXPECT_TRUE(at::allclose(run("Conv", {x3, w3}, {}), at::conv3d(x3, w3), 1e-4, 1e-5));
}

TEST(ConvForward, MismatchedChannelsNameTheNode) {
  EXPECT_THROW(run("Conv", {at::ones({1, 3, 4, 4}), at::ones({2, 4, 1, 1})}, {}), UserError);
  EXPECT_THROW(run("Conv", {at::ones({1, 3, 4, 4}), at::ones({2, 3, 1, 1})}, {{"pads", Ints{1, 1}}}), UserError);
}

TEST(ConvTransposeForward, MatchesLibTorchWithOutputPadding) {
  const at::Tensor x = at::randn({1, 4, 5, 6}), w = at::randn({4, 3, 3, 3}), b = at::randn({6});
  const at::Tensor y = run("ConvTranspose", {x, w, b},
                           {{"pads", Ints{1, 1, 1, 1}},
                            {"strides", Ints{2, 3}},
                            {"output_padding", Ints{1, 2}},
                            {"dilations", Ints{2, 1}},
                            {"group", int64_t{2}}});
  const at::Tensor want = at::conv_transpose2d(x, w, b, {2, 3}, {1, 1}, {1, 2}, 2, {2, 1});
  EXPECT_TRUE(at::allclose(y, want, 1e-4, 1e-5));
}

// ConvTranspose = InsertZeros + Conv with flipped filters, the identity that lowering rests on.
TEST(ConvTransposeForward, EqualsInsertZerosAndConv) {
  const at::Tensor x = at::randn({1, 2, 4}), w = at::randn({2, 3, 3});
  const at::Tensor y = run("ConvTranspose", {x, w}, {{"strides", Ints{2}}, {"pads", Ints{0, 1}}});
  const at::Tensor zeros = run("InsertZeros", {x}, {{"stride", Ints{2}}, {"output_padding", Ints{0}}});
  const at::Tensor want = run("Conv", {zeros, w.flip({2}).transpose(0, 1)}, {{"pads", Ints{2, 1}}});
  EXPECT_TRUE(at::allclose(y, want, 1e-4, 1e-6));
}

TEST(ConvTransposeForward, OutputShapeDecidesThePadding) {
  const at::Tensor x = at::randn({1, 1, 3, 3}), w = at::randn({1, 2, 3, 3});
  const at::Tensor y = run("ConvTranspose", {x, w}, {{"strides", Ints{3, 2}}, {"output_shape", Ints{10, 8}}});
  EXPECT_EQ(y.sizes(), (at::IntArrayRef{1, 2, 10, 8}));
}

TEST(InsertZerosForward, SamplesMoveToMultiplesOfTheStride) {
  const at::Tensor x = at::tensor({1.f, 2.f, 3.f}).reshape({1, 1, 3});
  const at::Tensor y = run("InsertZeros", {x}, {{"stride", Ints{3}}, {"output_padding", Ints{2}}});
  EXPECT_TRUE(at::equal(y.flatten(), at::tensor({1.f, 0.f, 0.f, 2.f, 0.f, 0.f, 3.f, 0.f, 0.f})));
}
