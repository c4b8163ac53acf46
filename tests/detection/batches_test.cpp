#include "qat/detection/batches.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/support/file.h"
#include "qat/detection/augment.h"
#include "qat/detection/shapes.h"
#include "tests/temporary_folder.h"
#include "tests/user_error.h"

namespace espq::detection {
namespace {

using espq::test::TemporaryFolder;
using espq::test::user_error_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

BatchOptions small_batches(bool random) {
  BatchOptions options;
  options.width = options.height = 64;
  options.batch_size = 4;
  options.shuffle = options.augment = random;
  return options;
}

TEST(Batches, HoldEveryImageOnceAndAreRepeatable) {
  const TemporaryFolder folder;
  const CocoDataset data = write_shapes(folder.path(), {ShapeKind::Figures, 10, 96, 64, 3, 5});
  const Batches batches(data, small_batches(true)), again(data, small_batches(true));
  ASSERT_EQ(batches.size(), 3u);
  std::vector<size_t> seen;
  for (size_t index : {0, 1, 2}) {
    const Batch batch = batches.get(1, index);
    seen.insert(seen.end(), batch.indexes.begin(), batch.indexes.end());
    EXPECT_EQ(batch.images.size(0), index == 2 ? 2 : 4);
  }
  std::sort(seen.begin(), seen.end());
  EXPECT_THAT(seen, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
  EXPECT_NE(batches.get(0, 0).indexes, batches.get(1, 0).indexes);
  const Batch first = batches.get(1, 1), second = again.get(1, 1);
  EXPECT_TRUE(first.images.equal(second.images));
  EXPECT_TRUE(first.targets.boxes.equal(second.targets.boxes));
  EXPECT_TRUE(first.targets.keypoints.equal(second.targets.keypoints));
}

TEST(Batches, GiveTargetsInNetworkPixels) {
  const TemporaryFolder folder;
  CocoDataset data = write_shapes(folder.path(), {ShapeKind::Figures, 1, 128, 64, 1, 5});
  data.annotations = {{0, 0, {10, 20, 40, 30}, 1200, false, std::vector<double>(15, 2.0)},
                      {0, 0, {0, 0, 128, 64}, 8192, true, {}}};
  const Batch batch = Batches(data, small_batches(false)).get(0, 0);
  // Half as large, 16 grey rows above.
  EXPECT_TRUE(batch.targets.boxes.equal(at::tensor({5.f, 26.f, 25.f, 41.f}).unsqueeze(0))) << batch.targets.boxes;
  EXPECT_TRUE(batch.targets.keypoints[0][0].equal(at::tensor({1.f, 17.f, 2.f})));
  EXPECT_EQ(batch.images[0][0][0][0].item<float>(), 114.f / 255);

  const auto found = to_original({{DetectedObject{0, 0.5f, {5, 26, 25, 90}, {1, 17, 0.25f}}}}, batch, data);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].box, (CocoBox{10, 20, 40, 44}));  // cut off at the image's edge
  EXPECT_THAT(found[0].keypoints, ElementsAre(2, 2, 0.25));
}

TEST(Batches, MoveTargetsWithTheImage) {
  const TemporaryFolder folder;
  CocoDataset data = write_shapes(folder.path(), {ShapeKind::Figures, 1, 64, 64, 0, 5});
  at::Tensor image = at::zeros({64, 64, 3}, at::kByte);
  image.slice(0, 20, 30).slice(1, 12, 36).fill_(255);
  write_png(data.images[0].file, image);
  data.annotations = {{0, 0, {12, 20, 24, 10}, 240, false, {12, 20, 2, 36, 20, 2, 0, 0, 0, 12, 30, 2, 36, 30, 2}}};
  BatchOptions options = small_batches(true);
  options.augmentation.hue = options.augmentation.saturation = options.augmentation.value = 0;
  const Batches batches(data, options);
  int mirrored = 0, compared = 0;
  for (size_t epoch = 0; epoch < 20; ++epoch) {
    const Batch batch = batches.get(epoch, 0);
    ASSERT_EQ(batch.targets.label.numel(), 1);
    const at::Tensor box = batch.targets.boxes[0];
    const at::Tensor white = batch.images[0][0] > 0.75;
    const at::Tensor columns = white.any(0).nonzero(), rows = white.any(1).nonzero();
    const float edges[4] = {columns.min().item<float>(), rows.min().item<float>(), columns.max().item<float>() + 1,
                            rows.max().item<float>() + 1};
    for (int64_t side = 0; side < 4; ++side) EXPECT_NEAR(box[side].item<float>(), edges[side], 1.1) << epoch;
    // The second keypoint is left_hand: the right upper corner, which a mirror image takes from right_hand's place.
    const at::Tensor points = batch.targets.keypoints[0];
    mirrored += points[0][0].item<float>() > box[0].item<float>() + 2 ? 1 : 0;
    EXPECT_EQ(points[1][2].item<float>() > 0 ? 1 : 0, points[0][0].item<float>() > box[0].item<float>() + 2 ? 0 : 1);
    ++compared;
  }
  EXPECT_EQ(compared, 20);
  EXPECT_GT(mirrored, 3);
  EXPECT_LT(mirrored, 17);
}

TEST(Batches, NameTheImageThatDoesNotFit) {
  const TemporaryFolder folder;
  CocoDataset data = write_shapes(folder.path(), {ShapeKind::Shapes, 2, 64, 64, 1, 5});
  data.images[1].width = 65;
  EXPECT_THAT(user_error_of([&] { Batches(data, small_batches(false)).get(0, 0); }),
              HasSubstr("000002.png: has 64x64 pixels, the annotations say 65x64"));
  data.images[1].width = 64;  // images are read side by side: of two bad ones either may be named
  write_file(data.images[0].file, "no image");
  EXPECT_THAT(user_error_of([&] { Batches(data, small_batches(false)).get(0, 0); }), HasSubstr("000001.png"));
  EXPECT_THAT(user_error_of([&] { Batches(CocoDataset(), small_batches(false)); }), HasSubstr("no images"));
}

TEST(Augment, ChangesColors) {
  const at::Tensor image = at::rand({3, 8, 8});
  EXPECT_TRUE(change_colors(image, 1, 1, 1).allclose(image, 1e-4, 1e-5));
  const at::Tensor grey = change_colors(image, 1, 0, 1);
  EXPECT_TRUE(grey[0].allclose(image.amax(0)));
  EXPECT_TRUE(grey[0].equal(grey[2]));
  EXPECT_TRUE(change_colors(image, 1, 1, 0.5).allclose(image * 0.5, 1e-4, 1e-5));
}

TEST(Augment, KnowsMirroredKeypoints) {
  EXPECT_THAT(mirrored_keypoints({"nose", "left_eye", "right_eye", "left_hand"}), ElementsAre(0, 2, 1, 3));
}

}  // namespace
}  // namespace espq::detection
