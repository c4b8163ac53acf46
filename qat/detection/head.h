#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

namespace espq::detection {

/// Shape of an anchor-free YOLO head (YOLOv8, YOLO11). Every cell of every level predicts one object: the distances to
/// the four sides of its box, each as a distribution over `bins` whole cells, a score per class and, for poses, the
/// place of every keypoint.
struct HeadLayout {
  int64_t classes = 0;
  int64_t bins = 16;                  ///< values per side ("reg_max")
  int64_t keypoints = 0;              ///< per object; 0 = a network without keypoints
  int64_t keypoint_values = 3;        ///< 2: x, y; 3: x, y and the logit of being visible
  std::vector<int64_t> strides = {};  ///< pixels per cell, one per level
  int64_t width = 0, height = 0;      ///< of the input image in pixels
  int64_t levels() const { return static_cast<int64_t>(strides.size()); }
};

/// Finds the layout of a network from the shapes of its raw maps. They come as in the published networks for these
/// chips: box and class map of the first level, of the second, ..., then the keypoint map of every level, all
/// [N, channels, height, width]. `keypoint_values` is 2 or 3 and only used when there are keypoint maps.
/// Throws UserError saying which map does not fit.
HeadLayout head_layout(const std::vector<std::vector<int64_t>>& map_shapes, int64_t image_width, int64_t image_height,
                       bool pose, int64_t keypoint_values = 3);

/// Raw maps of all levels, one row per cell. N images, A cells in all.
struct HeadMaps {
  at::Tensor distances;  ///< [N, A, 4, bins]: logits of the distances left, top, right, bottom
  at::Tensor scores;     ///< [N, A, classes]: logits
  at::Tensor keypoints;  ///< [N, A, K, 2 or 3]; undefined without keypoints
  at::Tensor centers;    ///< [A, 2]: x, y of the cell's middle in cells
  at::Tensor strides;    ///< [A, 1]: pixels per cell
};
/// Puts the maps of a network (order as above) together; differentiable. Throws UserError on maps of another layout.
HeadMaps gather_maps(const std::vector<at::Tensor>& maps, const HeadLayout& layout);

/// Boxes [N, A, 4] as left, top, right, bottom in cells of the own level; the distance is the mean of its distribution.
at::Tensor decode_boxes(const HeadMaps& maps);
/// Keypoints [N, A, K, 2 or 3] in cells of the own level; the third value stays a logit.
at::Tensor decode_keypoints(const HeadMaps& maps);

}  // namespace espq::detection
