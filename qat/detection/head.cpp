#include "qat/detection/head.h"

#include <ATen/ATen.h>

#include "core/support/error.h"

namespace espq::detection {
namespace {

std::string text_of(const std::vector<int64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

}  // namespace

HeadLayout head_layout(const std::vector<std::vector<int64_t>>& map_shapes, int64_t image_width, int64_t image_height,
                       bool pose, int64_t keypoint_values) {
  const size_t maps_per_level = pose ? 3 : 2;
  user_check(!map_shapes.empty() && map_shapes.size() % maps_per_level == 0,
             "the network has {} outputs; expected the raw maps of a YOLO head, {} for every level", map_shapes.size(),
             pose ? "box, class and keypoint map" : "box and class map");
  const size_t levels = map_shapes.size() / maps_per_level;
  HeadLayout layout;
  layout.width = image_width;
  layout.height = image_height;
  layout.keypoint_values = keypoint_values;
  const auto same = [](int64_t& known, int64_t found, size_t output, const char* what) {
    if (known == 0) known = found;
    user_check(known == found, "output {} has {} channels for {}, the level before has {}", output, found, what, known);
  };
  int64_t box_channels = 0, keypoint_channels = 0;
  for (size_t level = 0; level < levels; ++level) {
    const std::vector<int64_t>& box = map_shapes[2 * level];
    for (size_t output : {2 * level, 2 * level + 1, pose ? 2 * levels + level : 2 * level}) {
      const std::vector<int64_t>& map = map_shapes[output];
      user_check(
          map.size() == 4 && map[2] == box.at(2) && map[3] == box.at(3),
          "output {} has shape {}; expected a map [N, channels, height, width] as large as output {}, which is {}",
          output, text_of(map), 2 * level, text_of(box));
    }
    same(box_channels, box[1], 2 * level, "boxes");
    same(layout.classes, map_shapes[2 * level + 1][1], 2 * level + 1, "classes");
    if (pose) same(keypoint_channels, map_shapes[2 * levels + level][1], 2 * levels + level, "keypoints");
    const int64_t stride = image_width / box[3];
    user_check(stride > 0 && box[3] * stride == image_width && box[2] * stride == image_height,
               "output {} has {}x{} cells, which do not divide the image of {}x{} pixels evenly", 2 * level, box[3],
               box[2], image_width, image_height);
    layout.strides.push_back(stride);
  }
  user_check(box_channels % 4 == 0, "box maps have {} channels; expected a multiple of 4", box_channels);
  layout.bins = box_channels / 4;
  user_check(layout.bins > 1, "box maps hold one value per side; networks without a distribution are not supported");
  if (pose) {
    user_check(keypoint_channels % keypoint_values == 0, "keypoint maps have {} channels, no multiple of {}",
               keypoint_channels, keypoint_values);
    layout.keypoints = keypoint_channels / keypoint_values;
  }
  return layout;
}

HeadMaps gather_maps(const std::vector<at::Tensor>& maps, const HeadLayout& layout) {
  const size_t levels = layout.strides.size();
  const bool pose = layout.keypoints > 0;
  user_check(maps.size() == levels * (pose ? 3 : 2), "{} maps were given, the layout has {}", maps.size(),
             levels * (pose ? 3 : 2));
  const auto rows = [&](size_t index, int64_t channels) {
    const at::Tensor& map = maps[index];
    user_check(map.dim() == 4 && map.size(1) == channels, "map {} has shape {}, the layout has {} channels there",
               index, text_of(map.sizes().vec()), channels);
    return map.flatten(2).transpose(1, 2);
  };
  std::vector<at::Tensor> distances, scores, keypoints, centers, strides;
  for (size_t level = 0; level < levels; ++level) {
    distances.push_back(rows(2 * level, 4 * layout.bins));
    scores.push_back(rows(2 * level + 1, layout.classes));
    if (pose) keypoints.push_back(rows(2 * levels + level, layout.keypoints * layout.keypoint_values));
    const at::Tensor& map = maps[2 * level];
    const at::TensorOptions options = map.options().requires_grad(false);
    const at::Tensor x = (at::arange(map.size(3), options) + 0.5).expand({map.size(2), map.size(3)});
    const at::Tensor y = (at::arange(map.size(2), options) + 0.5).unsqueeze(1).expand({map.size(2), map.size(3)});
    centers.push_back(at::stack({x, y}, -1).reshape({-1, 2}));
    strides.push_back(at::full({x.numel(), 1}, static_cast<double>(layout.strides[level]), options));
  }
  HeadMaps result;
  result.distances = at::cat(distances, 1).unflatten(2, at::IntArrayRef({4, layout.bins}));
  result.scores = at::cat(scores, 1);
  if (pose) {
    result.keypoints = at::cat(keypoints, 1).unflatten(2, at::IntArrayRef({layout.keypoints, layout.keypoint_values}));
  }
  result.centers = at::cat(centers);
  result.strides = at::cat(strides);
  return result;
}

at::Tensor decode_boxes(const HeadMaps& maps) {
  const at::Tensor bins = at::arange(maps.distances.size(3), maps.distances.options().requires_grad(false));
  const at::Tensor distance = maps.distances.softmax(3).matmul(bins);
  return at::cat({maps.centers - distance.slice(2, 0, 2), maps.centers + distance.slice(2, 2, 4)}, 2);
}

at::Tensor decode_keypoints(const HeadMaps& maps) {
  // Offsets count from the upper left corner of the cell, in half cells.
  const at::Tensor places = maps.keypoints.slice(3, 0, 2) * 2 + (maps.centers - 0.5).unsqueeze(1);
  return at::cat({places, maps.keypoints.slice(3, 2)}, 3);
}

}  // namespace espq::detection
