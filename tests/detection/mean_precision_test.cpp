#include "qat/detection/mean_precision.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/support/file.h"
#include "tests/temporary_folder.h"
#include "tests/user_error.h"

namespace espq::detection {
namespace {

using espq::test::TemporaryFolder;
using nlohmann::json;

/// Annotations, detections and the numbers of pycocotools (tests/data/make_detection_fixtures.py).
class RecordedPrecision : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::filesystem::path file =
        std::filesystem::path(ESPQ_TEST_DATA) / "detection" / fmt::format("coco_{}.json", GetParam());
    recorded_ = json::parse(read_file(file));
    json& categories = recorded_["annotations"]["categories"];
    for (json& category : categories) {  // the reader wants to know how many keypoints there are
      for (size_t i = 0; i < recorded_["sigmas"].size(); ++i) category["keypoints"].push_back(std::to_string(i));
    }
    write_file(folder_ / "truth.json", recorded_["annotations"].dump());
    truth_ = read_coco(folder_ / "truth.json", folder_.path());
    for (const json& found : recorded_["detections"]) {
      CocoDetection detection{found["image_id"].get<size_t>() - 1, found["category_id"].get<size_t>() - 1,
                              found["score"].get<double>()};
      if (found.contains("bbox")) detection.box = found["bbox"].get<CocoBox>();
      if (found.contains("keypoints")) detection.keypoints = found["keypoints"].get<std::vector<double>>();
      found_.push_back(detection);
    }
  }
  TemporaryFolder folder_;
  json recorded_;
  CocoDataset truth_;
  std::vector<CocoDetection> found_;
};

TEST_P(RecordedPrecision, EqualsPycocotools) {
  std::vector<double> actual;
  if (recorded_["sigmas"].empty()) {
    const MeanPrecision p = box_precision(truth_, found_);
    actual = {p.map,      p.map50,     p.map75,  p.small,        p.medium,        p.large,
              p.recall_1, p.recall_10, p.recall, p.recall_small, p.recall_medium, p.recall_large};
  } else {
    const MeanPrecision p = keypoint_precision(truth_, found_, recorded_["sigmas"].get<std::vector<double>>());
    actual = {p.map,    p.map50,    p.map75,    p.medium,        p.large,
              p.recall, p.recall50, p.recall75, p.recall_medium, p.recall_large};
  }
  const auto expected = recorded_["stats"].get<std::vector<double>>();
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 1e-9) << "number " << i;
}

INSTANTIATE_TEST_SUITE_P(Cases, RecordedPrecision,
                         ::testing::Values("boxes", "many_images", "nothing_right", "person", "five_points"),
                         [](const auto& info) { return std::string(info.param); });

TEST(MeanPrecision, IsOneForAPerfectAnswerAndZeroForNone) {
  CocoDataset truth;
  truth.images = {{1, "a.png", 100, 100}};
  truth.categories = {{1, "thing"}};
  truth.annotations = {{0, 0, {10, 10, 40, 40}, 1600}};
  EXPECT_DOUBLE_EQ(box_precision(truth, {{0, 0, 0.9, {10, 10, 40, 40}}}).map, 1);
  const MeanPrecision nothing = box_precision(truth, {});
  EXPECT_EQ(nothing.map, 0);
  EXPECT_EQ(nothing.small, -1);  // there is no small object to be found
}

TEST(MeanPrecision, RefusesWhatDoesNotFit) {
  CocoDataset truth;
  truth.images = {{1, "a.png", 100, 100}};
  truth.categories = {{1, "thing"}};
  EXPECT_THAT(espq::test::user_error_of([&] {
                box_precision(truth, {{0, 1, 0.9, {}}});
              }),
              ::testing::HasSubstr("category 1"));
  EXPECT_THAT(espq::test::user_error_of([&] {
                keypoint_precision(truth, {{0, 0, 0.9, {}}}, {0.1});
              }),
              ::testing::HasSubstr("expected x, y and visibility of 1"));
}

}  // namespace
}  // namespace espq::detection
