#include "qat/detection/head.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/user_error.h"

namespace espq::detection {
namespace {

using espq::test::user_error_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Shapes = std::vector<std::vector<int64_t>>;

TEST(HeadLayout, IsFoundFromTheMaps) {
  const HeadLayout layout = head_layout(
      {{1, 64, 8, 12}, {1, 3, 8, 12}, {1, 64, 4, 6}, {1, 3, 4, 6}, {1, 51, 8, 12}, {1, 51, 4, 6}}, 96, 64, true);
  EXPECT_EQ(layout.classes, 3);
  EXPECT_EQ(layout.bins, 16);
  EXPECT_EQ(layout.keypoints, 17);
  EXPECT_THAT(layout.strides, ElementsAre(8, 16));
}

TEST(HeadLayout, NamesTheMapThatDoesNotFit) {
  const auto message = [](const Shapes& shapes, bool pose = false) {
    return user_error_of([&] { head_layout(shapes, 64, 64, pose); });
  };
  EXPECT_THAT(message({{1, 84, 8400}}), HasSubstr("the network has 1 outputs"));
  EXPECT_THAT(message({{1, 64, 8, 8}, {1, 3, 4, 4}}), HasSubstr("output 1 has shape [1, 3, 4, 4]"));
  EXPECT_THAT(message({{1, 64, 8, 8}, {1, 3, 8, 8}, {1, 64, 4, 4}, {1, 4, 4, 4}}),
              HasSubstr("output 3 has 4 channels for classes"));
  EXPECT_THAT(message({{1, 64, 7, 7}, {1, 3, 7, 7}}), HasSubstr("do not divide the image"));
  EXPECT_THAT(message({{1, 4, 8, 8}, {1, 3, 8, 8}}), HasSubstr("without a distribution"));
  EXPECT_THAT(message({{1, 64, 8, 8}, {1, 3, 8, 8}, {1, 50, 8, 8}}, true), HasSubstr("no multiple of 3"));
}

TEST(Head, DecodesBoxesAndKeypoints) {
  HeadLayout layout;
  layout.classes = 1;
  layout.bins = 4;
  layout.keypoints = 1;
  layout.strides = {8};
  layout.width = layout.height = 16;
  at::Tensor box = at::full({1, 16, 2, 2}, -100.f);
  // The cell in column 1 of row 0 is certain of 1 left, 0 above, 2 right, halfway between 2 and 3 below.
  for (int64_t channel : {1, 4, 8 + 2, 12 + 2, 12 + 3}) box[0][channel][0][1] = 100;
  at::Tensor point = at::zeros({1, 3, 2, 2});
  point[0][0][0][1] = 0.25;
  const HeadMaps maps = gather_maps({box, at::zeros({1, 1, 2, 2}), point}, layout);
  const at::Tensor boxes = decode_boxes(maps)[0][1] * 8;
  EXPECT_TRUE(boxes.allclose(at::tensor({(1.5f - 1) * 8, 0.5f * 8, (1.5f + 2) * 8, (0.5f + 2.5f) * 8}))) << boxes;
  const at::Tensor keypoint = decode_keypoints(maps)[0][1][0];
  EXPECT_TRUE(keypoint.allclose(at::tensor({1.5f, 0.f, 0.f}))) << keypoint;
}

}  // namespace
}  // namespace espq::detection
