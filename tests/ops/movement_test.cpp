#include <gtest/gtest.h>

#include "core/support/error.h"
#include "tests/ops/node_run.h"

using namespace espq;

namespace {

using Ints = std::vector<int64_t>;

at::Tensor ints(const Ints& values) { return at::tensor(values, at::kLong); }

Shape shape(const at::Tensor& tensor) { return tensor.sizes().vec(); }

}  // namespace

TEST(Reshape, ZeroCopiesAndMinusOneInfers) {
  const at::Tensor x = at::randn({2, 3, 4});
  EXPECT_EQ(shape(run_one("Reshape", {x, ints({0, -1})})), (Shape{2, 12}));
  EXPECT_EQ(shape(run_one("Reshape", {at::zeros({0, 3}), ints({3, 0})}, {{"allowzero", int64_t{1}}})), (Shape{3, 0}));
  EXPECT_THROW(run_one("Reshape", {x, ints({1, 2, 12, 0})}), UserError);
}

TEST(Flatten, AxisFromZeroToRank) {
  const at::Tensor x = at::randn({2, 3, 4});
  EXPECT_EQ(shape(run_one("Flatten", {x})), (Shape{2, 12}));
  EXPECT_EQ(shape(run_one("Flatten", {x}, {{"axis", int64_t{0}}})), (Shape{1, 24}));
  EXPECT_EQ(shape(run_one("Flatten", {x}, {{"axis", int64_t{3}}})), (Shape{24, 1}));
  EXPECT_EQ(shape(run_one("Flatten", {x}, {{"axis", int64_t{-1}}})), (Shape{6, 4}));
}

TEST(Unsqueeze, SeveralNegativeAxesCountInTheResult) {
  const at::Tensor x = at::randn({3, 4});
  EXPECT_EQ(shape(run_one("Unsqueeze", {x, ints({-1, -4})})), (Shape{1, 3, 4, 1}));
  EXPECT_EQ(shape(run_one("Unsqueeze", {x, ints({3, 0})})), (Shape{1, 3, 4, 1}));
  EXPECT_THROW(run_one("Unsqueeze", {x, ints({0, 0})}), UserError);
}

TEST(Squeeze, OnlyAxesOfSizeOne) {
  const at::Tensor x = at::randn({1, 3, 1, 4});
  EXPECT_EQ(shape(run_one("Squeeze", {x})), (Shape{3, 4}));
  EXPECT_EQ(shape(run_one("Squeeze", {x, ints({-2})})), (Shape{1, 3, 4}));
  EXPECT_THROW(run_one("Squeeze", {x, ints({1})}), UserError);
}

TEST(Transpose, ReversesByDefault) {
  const at::Tensor x = at::randn({2, 3, 4});
  EXPECT_TRUE(at::equal(run_one("Transpose", {x}), x.permute({2, 1, 0})));
  EXPECT_TRUE(at::equal(run_one("Transpose", {x}, {{"perm", Ints{1, 0, 2}}}), x.permute({1, 0, 2})));
}

TEST(Slice, NegativeStepsRunBackwards) {
  const at::Tensor x = at::arange(6, at::kFloat);
  const at::Tensor all = run_one("Slice", {x, ints({-1}), ints({INT64_MIN}), ints({0}), ints({-2})});
  EXPECT_TRUE(at::equal(all, at::tensor({5.f, 3.f, 1.f})));
  const at::Tensor part = run_one("Slice", {x, ints({100}), ints({1}), ints({-1}), ints({-1})});
  EXPECT_TRUE(at::equal(part, at::tensor({5.f, 4.f, 3.f, 2.f})));
}

TEST(Slice, BoundsAreClampedAndMayBeEmpty) {
  const at::Tensor x = at::arange(12, at::kFloat).reshape({3, 4});
  EXPECT_TRUE(at::equal(run_one("Slice", {x, ints({0, -3}), ints({INT64_MAX, -1})}), x.slice(1, 1, 3)));
  EXPECT_EQ(shape(run_one("Slice", {x, ints({2}), ints({1})})), (Shape{0, 4}));
  EXPECT_THROW(run_one("Slice", {x, ints({0}), ints({1}), ints({2})}), UserError);
}

TEST(Gather, IndicesOfAnyRankAndSign) {
  const at::Tensor x = at::arange(12, at::kFloat).reshape({3, 4});
  const at::Tensor rows = run_one("Gather", {x, at::tensor({0, -1, -1, 1}, at::kInt).reshape({2, 2})});
  EXPECT_EQ(shape(rows), (Shape{2, 2, 4}));
  EXPECT_TRUE(at::equal(rows[0][1], x[2]));
  EXPECT_TRUE(
      at::equal(run_one("Gather", {x, at::scalar_tensor(1, at::kLong)}, {{"axis", int64_t{-1}}}), x.select(1, 1)));
}

TEST(Pad, ModesOnAxes) {
  const at::Tensor x = at::arange(1, 5, at::kFloat).reshape({1, 4});
  const auto padded = [&](const char* mode, const Ints& pads) {
    return run_one("Pad", {x, ints(pads), {}, ints({-1})}, {{"mode", std::string(mode)}}).flatten();
  };
  EXPECT_TRUE(at::equal(padded("constant", {1, 2}), at::tensor({0.f, 1.f, 2.f, 3.f, 4.f, 0.f, 0.f})));
  EXPECT_TRUE(at::equal(padded("reflect", {2, 3}), at::tensor({3.f, 2.f, 1.f, 2.f, 3.f, 4.f, 3.f, 2.f, 1.f})));
  EXPECT_TRUE(at::equal(padded("edge", {1, 1}), at::tensor({1.f, 1.f, 2.f, 3.f, 4.f, 4.f})));
  EXPECT_TRUE(at::equal(padded("wrap", {1, 2}), at::tensor({4.f, 1.f, 2.f, 3.f, 4.f, 1.f, 2.f})));
  EXPECT_TRUE(at::equal(padded("constant", {-1, 1}), at::tensor({2.f, 3.f, 4.f, 0.f})));
  EXPECT_TRUE(at::equal(padded("reflect", {-1, 1}), at::tensor({2.f, 3.f, 4.f, 3.f})));
  EXPECT_THROW(padded("mirror", {1, 1}), UserError);
}

TEST(Pad, ConstantValueAndFullRankPads) {
  const at::Tensor x = at::ones({1, 2, 2});
  const at::Tensor y = run_one("Pad", {x, ints({0, 1, 0, 0, 0, 2}), at::scalar_tensor(-7.0)});
  EXPECT_TRUE(at::equal(y, at::constant_pad_nd(x, {0, 2, 1, 0}, -7.0)));
}

TEST(Split, EqualUnevenAndExplicitParts) {
  const at::Tensor x = at::arange(7, at::kFloat);
  const Tensors uneven = run_node("Split", {x}, {{"num_outputs", int64_t{3}}}, false, 3);
  EXPECT_EQ(uneven[0].numel(), 3);
  EXPECT_EQ(uneven[2].numel(), 1);
  const Tensors given = run_node("Split", {x, ints({2, 5})}, {}, false, 2);
  EXPECT_TRUE(at::equal(given[1], x.slice(0, 2)));
}

// Hand-computed from the standard: DCR takes the block index from the outer part of the channels, CRD from the inner.
TEST(DepthToSpace, BothOrders) {
  const at::Tensor x = at::arange(8, at::kFloat).reshape({1, 8, 1, 1});
  const at::Tensor dcr = run_one("DepthToSpace", {x}, {{"blocksize", int64_t{2}}});
  EXPECT_TRUE(at::equal(dcr.flatten(), at::tensor({0.f, 2.f, 4.f, 6.f, 1.f, 3.f, 5.f, 7.f})));
  const at::Tensor crd = run_one("DepthToSpace", {x}, {{"blocksize", int64_t{2}}, {"mode", std::string("CRD")}});
  EXPECT_TRUE(at::equal(crd.flatten(), x.flatten()));
}

TEST(SpaceToDepth, OnnxByBlockChipByChannel) {
  const at::Tensor x = at::arange(8, at::kFloat).reshape({1, 2, 2, 2});
  const AttributeMap attributes = {{"blocksize", int64_t{2}}};
  const at::Tensor onnx = run_node("SpaceToDepth", {x}, attributes).at(0);
  EXPECT_TRUE(at::equal(onnx.flatten(), at::tensor({0.f, 4.f, 1.f, 5.f, 2.f, 6.f, 3.f, 7.f})));
  EXPECT_TRUE(at::equal(run_one("DepthToSpace", {onnx}, attributes), x));
  EXPECT_TRUE(at::equal(run_node("SpaceToDepth", {x}, attributes, true).at(0).flatten(), x.flatten()));
}

TEST(Makers, ShapesAndConstants) {
  EXPECT_TRUE(at::equal(run_one("Shape", {at::zeros({2, 3, 4})}, {{"start", int64_t{-2}}}), ints({3, 4})));
  EXPECT_TRUE(
      at::equal(run_one("Shape", {at::zeros({2, 3, 4})}, {{"start", int64_t{2}}, {"end", int64_t{1}}}), ints({})));
  EXPECT_TRUE(at::equal(run_one("ConstantOfShape", {ints({2})}, {{"value", at::tensor({5}, at::kInt)}}),
                        at::tensor({5, 5}, at::kInt)));
  EXPECT_TRUE(at::equal(run_one("Range", {at::tensor(5), at::tensor(-2), at::tensor(-3)}), at::tensor({5, 2, -1})));
  EXPECT_EQ(run_one("Cast", {at::tensor({-1.7f})}, {{"to", int64_t{7}}}).item<int64_t>(), -1);
}

TEST(Expand, ShapesMeetInBothDirections) {
  EXPECT_EQ(shape(run_one("Expand", {at::ones({3, 1}), ints({2, 1, 6})})), (Shape{2, 3, 6}));
  EXPECT_EQ(shape(run_one("Expand", {at::ones({3, 4}), ints({1})})), (Shape{3, 4}));
}
