#pragma once
#include <array>
#include <vector>

#include "qat/detection/head.h"

namespace espq::detection {

/// Non-maximum suppression; the defaults are those that mAP is measured with.
struct SuppressionOptions {
  double confidence = 0.001;   ///< detections with a score up to this are dropped
  double overlap = 0.7;        ///< of two of one class that overlap (IoU) more than this, the better one stays
  int64_t limit = 300;         ///< detections per image that stay
  int64_t candidates = 30000;  ///< best detections per image that are looked at
};

struct DetectedObject {
  int64_t label = 0;
  float score = 0;
  std::array<float, 4> box = {};      ///< left, top, right, bottom in pixels of the network's input
  std::vector<float> keypoints = {};  ///< x, y in pixels and probability of being visible, of each keypoint
};

/// boxes [N, A, 4], scores [N, A, classes] in [0, 1], keypoints [N, A, K, 3] or undefined. A box is kept for each of
/// its classes that is good enough. Best score first; one list per image.
std::vector<std::vector<DetectedObject>> suppress(const at::Tensor& boxes, const at::Tensor& scores,
                                                  const at::Tensor& keypoints, const SuppressionOptions& options = {});

/// Decodes the raw maps of a network (order as for head_layout) and suppresses.
std::vector<std::vector<DetectedObject>> detect(const std::vector<at::Tensor>& maps, const HeadLayout& layout,
                                                const SuppressionOptions& options = {});

}  // namespace espq::detection
