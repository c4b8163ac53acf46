#pragma once
#include <vector>

#include "qat/detection/coco.h"

namespace espq::detection {

/// An object that a network found, in pixels of the original image.
struct CocoDetection {
  size_t image = 0;     ///< index in CocoDataset::images
  size_t category = 0;  ///< index in CocoDataset::categories
  double score = 0;
  CocoBox box = {};
  std::vector<double> keypoints = {};  ///< x, y and anything of each; empty without poses
};

/// Averages over categories, thresholds and 101 recall points; -1 = nothing of that kind to be found.
struct MeanPrecision {
  double map = -1;                             ///< thresholds 0.50, 0.55 ... 0.95: mAP50-95
  double map50 = -1, map75 = -1;               ///< one threshold
  double small = -1, medium = -1, large = -1;  ///< objects below 32^2, up to 96^2, above; small: boxes only
  double recall_1 = -1, recall_10 = -1;        ///< with 1 or 10 detections per image; boxes only
  double recall = -1;                          ///< with 100 (keypoints: 20) detections per image
  double recall50 = -1, recall75 = -1;         ///< keypoints only
  double recall_small = -1, recall_medium = -1, recall_large = -1;
};

/// COCO's evaluation of boxes, by intersection over union.
MeanPrecision box_precision(const CocoDataset& truth, const std::vector<CocoDetection>& found);

/// COCO's evaluation of keypoints, by object keypoint similarity with these constants, one per keypoint.
MeanPrecision keypoint_precision(const CocoDataset& truth, const std::vector<CocoDetection>& found,
                                 const std::vector<double>& sigmas);

}  // namespace espq::detection
