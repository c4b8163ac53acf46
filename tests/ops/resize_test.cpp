#include <gtest/gtest.h>

#include <cmath>

#include "core/support/error.h"
#include "tests/ops/node_run.h"

using namespace espq;

namespace {

AttributeMap options(const std::string& mode, const std::string& coordinates = "half_pixel") {
  return {{"mode", mode}, {"coordinate_transformation_mode", coordinates}};
}

at::Tensor image() { return at::arange(1, 17, at::kFloat).reshape({1, 1, 4, 4}); }

at::Tensor scales(const std::vector<float>& values) { return at::tensor(values); }

at::Tensor sizes(const std::vector<int64_t>& values) { return at::tensor(values, at::kLong); }

}  // namespace

// Numbers of the examples in the ONNX operator description.
TEST(ResizeForward, ExamplesOfTheStandard) {
  const at::Tensor small = at::tensor({1.f, 2.f, 3.f, 4.f}).reshape({1, 1, 2, 2});
  const at::Tensor nearest = run_one("Resize", {small, {}, scales({1, 1, 2, 3})}, options("nearest"));
  EXPECT_TRUE(at::equal(nearest.flatten().slice(0, 0, 6), at::tensor({1.f, 1.f, 1.f, 2.f, 2.f, 2.f})));
  const at::Tensor linear = run_one("Resize", {small, {}, scales({1, 1, 2, 2})}, options("linear"));
  EXPECT_TRUE(
      at::allclose(linear.flatten().slice(0, 0, 8), at::tensor({1.f, 1.25f, 1.75f, 2.f, 1.5f, 1.75f, 2.25f, 2.5f})));
  const at::Tensor cubic = run_one("Resize", {image(), {}, scales({1, 1, 0.8f, 0.8f})}, options("cubic"));
  EXPECT_TRUE(at::allclose(cubic.flatten().slice(0, 0, 3), at::tensor({1.47119141f, 2.78125f, 4.08251953f}), 1e-5));
  const at::Tensor aligned = run_one("Resize", {small, {}, scales({1, 1, 2, 2})}, options("linear", "align_corners"));
  EXPECT_TRUE(at::allclose(aligned.flatten().slice(0, 0, 4), at::tensor({1.f, 1.33333333f, 1.66666667f, 2.f})));
}

TEST(ResizeForward, NearestModes) {
  const at::Tensor x = at::arange(1, 9, at::kFloat).reshape({1, 1, 8});
  const auto run = [&](const std::string& nearest_mode) {
    AttributeMap attributes = options("nearest", "asymmetric");
    attributes["nearest_mode"] = nearest_mode;
    return run_one("Resize", {x, {}, {}, sizes({1, 1, 16})}, attributes).flatten().slice(0, 0, 4);
  };
  EXPECT_TRUE(at::equal(run("floor"), at::tensor({1.f, 1.f, 2.f, 2.f})));
  EXPECT_TRUE(at::equal(run("ceil"), at::tensor({1.f, 2.f, 2.f, 3.f})));
  EXPECT_TRUE(at::equal(run("round_prefer_floor"), at::tensor({1.f, 1.f, 2.f, 2.f})));
  EXPECT_TRUE(at::equal(run("round_prefer_ceil"), at::tensor({1.f, 2.f, 2.f, 3.f})));
  EXPECT_THROW(run("nearly"), UserError);
}

TEST(ResizeForward, AxesAndAspectRatio) {
  AttributeMap attributes = options("nearest");
  attributes["axes"] = std::vector<int64_t>{3, 2};
  EXPECT_EQ(run_one("Resize", {image(), {}, {}, sizes({8, 6})}, attributes).sizes().vec(), (Shape{1, 1, 6, 8}));
  attributes["keep_aspect_ratio_policy"] = std::string("not_larger");
  EXPECT_EQ(run_one("Resize", {image(), {}, {}, sizes({8, 6})}, attributes).sizes().vec(), (Shape{1, 1, 6, 6}));
  attributes["keep_aspect_ratio_policy"] = std::string("not_smaller");
  EXPECT_EQ(run_one("Resize", {image(), {}, {}, sizes({8, 6})}, attributes).sizes().vec(), (Shape{1, 1, 8, 8}));
}

// LibTorch's kernels and the general one have to agree.
TEST(ResizeForward, GeneralKernelEqualsLibTorch) {
  const at::Tensor x = at::randn({2, 3, 5, 7});
  AttributeMap attributes = options("linear");
  const at::Tensor fast = run_one("Resize", {x, {}, {}, sizes({2, 3, 9, 4})}, attributes);
  const at::Tensor general =
      run_one("Resize", {x, {}, {}, sizes({2, 3, 9, 4})}, options("linear", "half_pixel_symmetric"));
  EXPECT_TRUE(at::allclose(fast, general, 1e-4, 1e-5));
  attributes["antialias"] = int64_t{1};
  attributes["exclude_outside"] = int64_t{1};  // LibTorch leaves out what lies beyond the border
  const at::Tensor smooth = run_one("Resize", {x, {}, {}, sizes({2, 3, 9, 4})}, attributes);
  EXPECT_TRUE(at::allclose(smooth, at::_upsample_bilinear2d_aa(x, {9, 4}, false), 1e-4, 1e-5));
}

TEST(ResizeForward, ChipReadsNearestAsFloorAndLinearAsHalfPixel) {
  const at::Tensor x = image();
  const at::Tensor nearest = run_node("Resize", {x, {}, scales({1, 1, 2, 2})}, options("nearest"), true).at(0);
  EXPECT_TRUE(at::equal(nearest, x.repeat_interleave(2, 2).repeat_interleave(2, 3)));
  const at::Tensor linear =
      run_node("Resize", {x, {}, scales({1, 1, 2, 2})}, options("linear", "asymmetric"), true).at(0);
  EXPECT_TRUE(at::equal(linear, run_one("Resize", {x, {}, scales({1, 1, 2, 2})}, options("linear"))));
}

TEST(ResizeBoard, NearestMovesCodesToTheNewGrid) {
  const at::Tensor x = codes({-128, 3, 64, 127}).reshape({1, 1, 2, 2});
  const auto run = [&](const char* target, int e_out) {
    const BoardNode node{.type = "Resize",
                         .target = target,
                         .inputs = {{8, {-4}}, {}, {}},
                         .outputs = {{8, {e_out}}},
                         .attributes = options("nearest")};
    return node({x, {}, scales({1, 1, 1, 3})}).flatten().slice(0, 0, 6);
  };
  EXPECT_TRUE(at::equal(run("esp32p4", -4), codes({-128, -128, -128, 3, 3, 3})));
  EXPECT_TRUE(at::equal(run("esp32s3", -3), codes({-64, -64, -64, 2, 2, 2})));
  EXPECT_TRUE(at::equal(run("esp32s3", -5), codes({-128, -128, -128, 6, 6, 6})));  // saturates
  EXPECT_TRUE(at::equal(run("c", -5), codes({0, 0, 0, 6, 6, 6})));                 // wraps
}

TEST(ResizeBoard, LinearEqualsHalfPixelInterpolation) {
  at::manual_seed(5);
  for (const Shape& shape : {Shape{1, 4, 6, 5}, Shape{2, 3, 9}}) {
    const at::Tensor x = at::randint(-128, 128, shape, at::kFloat);
    std::vector<float> factor(shape.size(), 1.f);
    for (size_t axis = 2; axis < shape.size(); ++axis) factor[axis] = 2;
    const BoardNode node{
        .type = "Resize", .inputs = {{8, {-6}}, {}, {}}, .outputs = {{8, {-6}}}, .attributes = options("linear")};
    const at::Tensor got = node({x, {}, scales(factor)});
    // factors of 2 weigh with quarters: the float32 sums are exact, so is this double reference
    const at::Tensor want = at::round(run_one("Resize", {x.to(at::kDouble), {}, scales(factor)}, options("linear")));
    EXPECT_TRUE(at::equal(got, want.to(at::kFloat)));
  }
}

TEST(ResizeBoard, RefusesWhatTheChipCannotDo) {
  const BoardNode wide{
      .type = "Resize", .inputs = {{16, {-4}}, {}, {}}, .outputs = {{16, {-4}}}, .attributes = options("nearest")};
  EXPECT_THROW(wide({image(), {}, scales({1, 1, 2, 2})}), UserError);
  const BoardNode cubic{
      .type = "Resize", .inputs = {{8, {-4}}, {}, {}}, .outputs = {{8, {-4}}}, .attributes = options("cubic")};
  EXPECT_THROW(cubic({image(), {}, scales({1, 1, 2, 2})}), UserError);
}
