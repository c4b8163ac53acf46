#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "qat/detection/head.h"

namespace espq::detection {

/// What a batch of images shows: M objects, sorted by image.
struct Targets {
  at::Tensor image;      ///< [M] int64: index in the batch
  at::Tensor label;      ///< [M] int64: class
  at::Tensor boxes;      ///< [M, 4] float: left, top, right, bottom in pixels
  at::Tensor keypoints;  ///< [M, K, 3] float: x, y in pixels, visibility (0 = not labelled); undefined without poses
  /// The same on another device, where the maps are that they are compared with.
  Targets to(at::Device device) const;
};

/// Which cells learn which objects (task-aligned assignment, TOOD, arXiv 2108.07755): for each object the `candidates`
/// cells within its box with the largest score^score_power * CIoU^overlap_power.
struct AssignerOptions {
  int64_t candidates = 10;
  double score_power = 0.5;
  double overlap_power = 6.0;
};

struct Assignment {
  at::Tensor foreground;  ///< [N, A] bool: cells that learn an object
  at::Tensor object;      ///< [N, A] int64: which object of its image, counted per image
  at::Tensor boxes;       ///< [N, A, 4] that object's box in pixels
  at::Tensor scores;      ///< [N, A, classes] in [0, 1]: what the class scores should be
};

/// `scores` [N, A, classes] in [0, 1], `boxes` [N, A, 4] and `centers` [A, 2] in pixels, `strides` of the levels.
/// Without gradients. A box side shorter than the second level's stride counts as that long when cells within the box
/// are looked for. A cell wanted by several objects goes to the one that its own box overlaps most.
Assignment assign(const at::Tensor& scores, const at::Tensor& boxes, const at::Tensor& centers, const Targets& targets,
                  const std::vector<int64_t>& strides, const AssignerOptions& options = {});

/// Complete IoU (arXiv 1911.08287) of boxes [..., 4] pair by pair: 1 for equal ones, at least -1.5. The weight of the
/// aspect ratio's term carries no gradient.
at::Tensor complete_iou(const at::Tensor& first, const at::Tensor& second);

/// Factors of the parts in the sum; the defaults are those that YOLOv8 and YOLO11 were trained with.
struct LossOptions {
  double box = 7.5, classes = 0.5, distribution = 1.5, keypoints = 12.0, visibility = 1.0;
  /// Of every keypoint, as in COCO's object keypoint similarity. Empty: COCO's for 17 keypoints, 1/K otherwise.
  std::vector<double> keypoint_sigmas = {};
  AssignerOptions assigner;
};

/// Parts of the loss, each a differentiable scalar times its factor, averaged over the batch's objects.
struct DetectionLoss {
  at::Tensor box;           ///< 1 - CIoU of predicted and assigned box, weighted by the assigned score
  at::Tensor classes;       ///< binary cross-entropy of all scores
  at::Tensor distribution;  ///< distribution focal loss (arXiv 2006.04388) of the four distances
  at::Tensor keypoints;     ///< 1 - similarity of labelled keypoints; zero without poses
  at::Tensor visibility;    ///< binary cross-entropy of "is labelled"; zero without poses
  int64_t images = 0;
  /// The sum times the number of images, what YOLO's recipes give the optimizer.
  at::Tensor total() const;
};

/// The training loss of YOLOv8's and YOLO11's detection and pose heads, on raw maps.
/// Throws UserError on labels outside of the classes, boxes of no size or keypoints of another number.
DetectionLoss detection_loss(const HeadMaps& maps, const Targets& targets, const HeadLayout& layout,
                             const LossOptions& options = {});

/// COCO's constants for the 17 keypoints of persons; 1/K for other numbers.
std::vector<double> default_sigmas(int64_t keypoints);

}  // namespace espq::detection
