#pragma once
#include "qat/detection/coco.h"

namespace espq::detection {

enum class ShapeKind {
  Shapes,   ///< disks, squares, triangles and crosses
  Figures,  ///< stick figures with the keypoints head, left_hand, right_hand, left_foot, right_foot
};

struct ShapesOptions {
  ShapeKind kind = ShapeKind::Shapes;
  int64_t images = 400;
  int64_t width = 160, height = 160;
  int64_t most_objects = 4;  ///< per image; some have none
  uint64_t seed = 1;
};

/// Draws a small data set for trying out: objects of random color, place, size and turn before a noisy background,
/// some behind others. Writes `folder`/images/*.png and `folder`/annotations.json (COCO's format) and returns what was
/// written. Equal options give equal files.
CocoDataset write_shapes(const std::filesystem::path& folder, const ShapesOptions& options);

}  // namespace espq::detection
