#include "qat/detection/loss.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/detection/recorded.h"
#include "tests/user_error.h"

namespace espq::detection {
namespace {

using espq::test::user_error_of;
using test::Arrays;
using ::testing::HasSubstr;

// Sums of thousands of float32 values in another order: 1e-5 of the largest value.
constexpr double kTolerance = 1e-5;

void expect_close(const at::Tensor& actual, const at::Tensor& expected, const std::string& what) {
  ASSERT_EQ(actual.sizes(), expected.sizes()) << what;
  const double error = (actual - expected).abs().max().item<double>();
  EXPECT_LE(error, kTolerance * std::max(1.0, expected.abs().max().item<double>())) << what;
}

class RecordedLoss : public ::testing::TestWithParam<const char*> {
 protected:
  const Arrays arrays_ = test::recorded(fmt::format("losses_{}.npz", GetParam()));
  const HeadLayout layout_ = test::recorded_layout(arrays_);
  const Targets targets_ = test::recorded_targets(arrays_);
};

TEST_P(RecordedLoss, EqualsUltralytics) {
  std::vector<at::Tensor> maps = test::recorded_maps(arrays_);
  for (at::Tensor& map : maps) map.requires_grad_(true);
  const DetectionLoss loss = detection_loss(gather_maps(maps, layout_), targets_, layout_);
  const std::map<std::string, at::Tensor> parts = {{"box", loss.box},
                                                   {"classes", loss.classes},
                                                   {"distribution", loss.distribution},
                                                   {"keypoints", loss.keypoints},
                                                   {"visibility", loss.visibility}};
  for (const auto& [name, part] : parts) {
    const auto found = arrays_.find("loss_" + name);
    const at::Tensor expected = found == arrays_.end() ? at::zeros({}) : found->second;
    expect_close(part * static_cast<double>(loss.images), expected.reshape({}), name);
  }
  loss.total().backward();
  size_t index = 0;
  for (const char* kind : {"box", "class"}) {
    for (size_t level = 0; level < 3; ++level) {
      index = 2 * level + (kind[0] == 'c' ? 1 : 0);
      const std::string name = fmt::format("gradient_{}_{}", kind, level);
      expect_close(maps[index].grad(), arrays_.at(name), name);
    }
  }
  for (size_t level = 0; layout_.keypoints > 0 && level < 3; ++level) {
    const std::string name = fmt::format("gradient_keypoint_{}", level);
    expect_close(maps[6 + level].grad(), arrays_.at(name), name);
  }
}

TEST_P(RecordedLoss, AssignsAsUltralytics) {
  const HeadMaps maps = gather_maps(test::recorded_maps(arrays_), layout_);
  const Assignment assignment = assign(maps.scores.sigmoid(), decode_boxes(maps) * maps.strides,
                                       maps.centers * maps.strides, targets_, layout_.strides);
  const at::Tensor foreground = arrays_.at("assigned_foreground").to(at::kBool);
  EXPECT_TRUE(assignment.foreground.equal(foreground));
  EXPECT_TRUE(
      assignment.object.masked_select(foreground).equal(arrays_.at("assigned_object").masked_select(foreground)));
  expect_close(assignment.scores, arrays_.at("assigned_scores"), "scores");
  const at::Tensor mask = foreground.unsqueeze(2);
  expect_close(assignment.boxes * mask, arrays_.at("assigned_boxes") * mask, "boxes");
}

INSTANTIATE_TEST_SUITE_P(Cases, RecordedLoss,
                         ::testing::Values("boxes", "one_class", "few_bins", "no_objects", "person", "five_points",
                                           "without_visibility"),
                         [](const auto& info) { return std::string(info.param); });

TEST(CompleteIou, KnowsItsLimits) {
  const at::Tensor box = at::tensor({10.f, 20.f, 50.f, 60.f});
  EXPECT_NEAR(complete_iou(box, box).item<float>(), 1, 1e-6);
  // Same shape, side by side: no overlap, centers 40 apart, diagonal of the outer box sqrt(80^2 + 40^2).
  const at::Tensor beside = box + at::tensor({40.f, 0.f, 40.f, 0.f});
  EXPECT_NEAR(complete_iou(box, beside).item<float>(), -1600.0 / 8000.0, 1e-6);
}

TEST(Targets, MustFitTheNetwork) {
  HeadLayout layout;
  layout.classes = 2;
  layout.strides = {8};
  layout.width = layout.height = 16;
  const HeadMaps maps = gather_maps({at::zeros({1, 64, 2, 2}), at::zeros({1, 2, 2, 2})}, layout);
  const auto message = [&](int64_t image, int64_t label, const at::Tensor& box) {
    return user_error_of([&] {
      detection_loss(maps, {at::tensor({image}), at::tensor({label}), box.unsqueeze(0), {}}, layout);
    });
  };
  const at::Tensor box = at::tensor({1.f, 1.f, 9.f, 9.f});
  EXPECT_THAT(message(0, 2, box), HasSubstr("an object has class 2, the network has 2 classes"));
  EXPECT_THAT(message(0, -1, box), HasSubstr("class -1"));
  EXPECT_THAT(message(1, 0, box), HasSubstr("belongs to image 1, the batch has 1"));
  EXPECT_THAT(message(0, 0, at::tensor({5.f, 5.f, 5.f, 9.f})), HasSubstr("has no size"));
  layout.keypoints = 3;
  EXPECT_THAT(message(0, 0, box), HasSubstr("the network has 3 keypoints per object"));
}

}  // namespace
}  // namespace espq::detection
