#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "core/data/image.h"
#include "qat/detection/coco.h"
#include "qat/detection/detect.h"
#include "qat/detection/loss.h"
#include "qat/detection/mean_precision.h"

namespace espq::detection {

/// Random changes of training images; the defaults are those of YOLO's own recipe, without mosaics.
struct AugmentOptions {
  double flip = 0.5;                                  ///< probability of a mirror image
  double hue = 0.015, saturation = 0.7, value = 0.4;  ///< largest relative change of color
  double scale = 0.5;                                 ///< largest relative change of size
  double translate = 0.1;                             ///< largest shift, as a part of the image
};

struct BatchOptions {
  int64_t width = 640, height = 640;  ///< of the network's input
  int64_t batch_size = 16;
  bool shuffle = false;  ///< another order in every epoch
  bool augment = false;
  AugmentOptions augmentation;
  uint64_t seed = 1234;      ///< equal seeds give equal batches, whatever was asked for before
  bool keep_images = false;  ///< hold decoded images in memory
};

struct Batch {
  at::Tensor images;                  ///< float [N, 3, height, width], RGB in [0, 1]
  Targets targets;                    ///< in pixels of the network's input; crowds are left out
  std::vector<size_t> indexes;        ///< in CocoDataset::images
  std::vector<Placement> placements;  ///< meaningless for augmented images
};

/// Letterboxed images of a data set with their targets.
class Batches {
 public:
  /// `data` has to outlive this. Throws UserError when there are no images.
  Batches(const CocoDataset& data, const BatchOptions& options);
  ~Batches();

  size_t size() const;  ///< batches of an epoch; the last one may be smaller
  /// Throws UserError naming the file: unreadable images, or of another size than the annotations say.
  Batch get(size_t epoch, size_t index) const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

/// What was found in a batch, as COCO's evaluation wants it: in pixels of the original images, cut off at their edges.
std::vector<CocoDetection> to_original(const std::vector<std::vector<DetectedObject>>& found, const Batch& batch,
                                       const CocoDataset& data);

/// Index of each keypoint's counterpart in a mirror image, by names such as left_eye and right_eye.
std::vector<size_t> mirrored_keypoints(const std::vector<std::string>& names);

}  // namespace espq::detection
