#include "qat/detection/detect.h"

#include <gtest/gtest.h>

#include "tests/detection/recorded.h"

namespace espq::detection {
namespace {

class RecordedSuppression : public ::testing::TestWithParam<const char*> {};

TEST_P(RecordedSuppression, EqualsUltralytics) {
  const test::Arrays arrays = test::recorded(fmt::format("nms_{}.npz", GetParam()));
  const auto option = [&](int64_t index) { return arrays.at("options")[index].item<double>(); };
  SuppressionOptions options;
  options.confidence = option(0);
  options.overlap = option(1);
  options.limit = static_cast<int64_t>(option(2));
  const auto found = suppress(arrays.at("boxes"), arrays.at("scores"), arrays.at("keypoints"), options);
  ASSERT_EQ(found.size(), 2u);
  for (size_t image = 0; image < 2; ++image) {
    // Rows of left, top, right, bottom, score, class, keypoints.
    const at::Tensor expected = arrays.at(fmt::format("kept_{}", image));
    ASSERT_EQ(static_cast<int64_t>(found[image].size()), expected.size(0));
    for (int64_t row = 0; row < expected.size(0); ++row) {
      const DetectedObject& object = found[image][static_cast<size_t>(row)];
      std::vector<float> values(object.box.begin(), object.box.end());
      values.insert(values.end(), {object.score, static_cast<float>(object.label)});
      values.insert(values.end(), object.keypoints.begin(), object.keypoints.end());
      EXPECT_TRUE(at::tensor(values).allclose(expected[row], 1e-5, 1e-4)) << "image " << image << " row " << row;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, RecordedSuppression, ::testing::Values("classes", "pose"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Detect, DecodesInPixels) {
  HeadLayout layout;
  layout.classes = 2;
  layout.bins = 4;
  layout.keypoints = 1;
  layout.keypoint_values = 2;
  layout.strides = {8};
  layout.width = layout.height = 32;
  at::Tensor box = at::full({1, 16, 4, 4}, -100.f), score = at::full({1, 2, 4, 4}, -20.f);
  for (int64_t side = 0; side < 4; ++side) box[0][4 * side + 1][2][1] = 100;  // one cell to every side
  score[0][1][2][1] = 2;
  const auto found = detect({box, score, at::full({1, 2, 4, 4}, 0.5f)}, layout);
  ASSERT_EQ(found[0].size(), 1u);
  EXPECT_EQ(found[0][0].label, 1);
  EXPECT_FLOAT_EQ(found[0][0].score, 1 / (1 + std::exp(-2.f)));
  EXPECT_EQ(found[0][0].box, (std::array<float, 4>{4, 12, 20, 28}));
  EXPECT_EQ(found[0][0].keypoints, (std::vector<float>{16, 24, 1}));
}

}  // namespace
}  // namespace espq::detection
