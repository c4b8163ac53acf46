#include "qat/detection/shapes.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/data/image.h"
#include "core/support/file.h"
#include "tests/temporary_folder.h"

namespace espq::detection {
namespace {

using espq::test::TemporaryFolder;

TEST(Shapes, AreEqualForEqualSeeds) {
  const TemporaryFolder folder;
  const ShapesOptions options{ShapeKind::Shapes, 3, 64, 48, 4, 5};
  write_shapes(folder / "a", options);
  write_shapes(folder / "b", options);
  for (const char* name : {"annotations.json", "images/000001.png", "images/000003.png"}) {
    EXPECT_EQ(read_file(folder.path() / "a" / name), read_file(folder.path() / "b" / name)) << name;
  }
  ShapesOptions other = options;
  other.seed = 6;
  write_shapes(folder / "c", other);
  EXPECT_NE(read_file(folder.path() / "a/annotations.json"), read_file(folder.path() / "c/annotations.json"));
}

TEST(Shapes, StandWhereTheAnnotationsSay) {
  const TemporaryFolder folder;
  for (ShapeKind kind : {ShapeKind::Shapes, ShapeKind::Figures}) {
    const CocoDataset written = write_shapes(folder.path(), {kind, 20, 128, 96, 4, 5});
    const CocoDataset data = read_coco(folder / "annotations.json", folder / "images");
    ASSERT_EQ(data.images.size(), 20u);
    ASSERT_EQ(data.annotations.size(), written.annotations.size());
    EXPECT_GT(data.annotations.size(), 20u);
    for (const CocoAnnotation& object : data.annotations) {
      const auto [left, top, width, height] = object.box;
      EXPECT_GE(left, 0);
      EXPECT_GE(top, 0);
      EXPECT_LE(left + width, 128);
      EXPECT_LE(top + height, 96);
      EXPECT_GT(object.area, 0);
      EXPECT_LE(object.area, width * height);
      for (size_t i = 0; i + 2 < object.keypoints.size(); i += 3) {
        EXPECT_GE(object.keypoints[i], left - 1);
        EXPECT_LE(object.keypoints[i], left + width + 1);
        EXPECT_GE(object.keypoints[i + 1], top - 1);
        EXPECT_LE(object.keypoints[i + 1], top + height + 1);
      }
    }
    EXPECT_EQ(data.keypoint_names().size(), kind == ShapeKind::Figures ? 5u : 0u);
  }
}

}  // namespace
}  // namespace espq::detection
