#include "qat/detection/loss.h"

#include <ATen/ATen.h>

#include <numbers>

#include "core/support/error.h"

namespace espq::detection {
namespace {

/// Cross-entropy of the two whole distances around each distance, weighted by how near they are; mean over the sides.
/// logits [F, 4, bins], boxes [F, 4] and centers [F, 2] in cells; returns [F].
at::Tensor distribution_loss(const at::Tensor& logits, const at::Tensor& boxes, const at::Tensor& centers) {
  constexpr double kMargin = 0.01;  // keeps the upper neighbour inside the last bin
  const at::Tensor distances = at::cat({centers - boxes.slice(1, 0, 2), boxes.slice(1, 2, 4) - centers}, 1)
                                   .clamp(0, static_cast<double>(logits.size(2) - 1) - kMargin);
  const at::Tensor lower = distances.floor();
  const at::Tensor index = lower.to(at::kLong).unsqueeze(2);
  const at::Tensor log_probability = logits.log_softmax(2);
  const at::Tensor upper_weight = distances - lower;
  const at::Tensor entropy = log_probability.gather(2, index).squeeze(2) * (1 - upper_weight) +
                             log_probability.gather(2, index + 1).squeeze(2) * upper_weight;
  return -entropy.mean(1);
}

/// predicted [F, K, 2+], labelled [F, K, 3], both in cells; areas [F, 1] of the objects' boxes in cells.
at::Tensor keypoint_loss(const at::Tensor& predicted, const at::Tensor& labelled, const at::Tensor& areas,
                         const std::vector<double>& sigmas) {
  constexpr double kEpsilon = 1e-9;
  const at::Tensor mask = labelled.select(2, 2).ne(0).to(at::kFloat);
  const at::Tensor distance = (predicted.slice(2, 0, 2) - labelled.slice(2, 0, 2)).square().sum(2);
  const at::Tensor variance = (at::tensor(sigmas, areas.options()) * 2).square();
  const at::Tensor similarity = (-distance / (variance * (areas + kEpsilon) * 2)).exp();
  // Objects count alike, however many of their keypoints are labelled.
  const at::Tensor factor = static_cast<double>(mask.size(1)) / (mask.sum(1, true) + kEpsilon);
  return (factor * (1 - similarity) * mask).mean();
}

/// Keypoints [M, K, 3] of the object that each foreground cell learns: [F, K, 3].
at::Tensor assigned_keypoints(const Targets& targets, const Assignment& assignment, const at::Tensor& cells) {
  const at::Tensor image = cells.select(1, 0);
  const at::Tensor count = at::bincount(targets.image, {}, assignment.foreground.size(0));
  const at::Tensor first = count.cumsum(0) - count;
  const at::Tensor object = assignment.object.index({image, cells.select(1, 1)});
  return targets.keypoints.index_select(0, first.index_select(0, image) + object);
}

void check_targets(const Targets& targets, const HeadLayout& layout) {
  const int64_t objects = targets.label.numel();
  user_check(targets.image.numel() == objects && targets.boxes.sizes() == at::IntArrayRef({objects, 4}),
             "{} labels, {} image numbers and boxes of shape {} do not belong together", objects, targets.image.numel(),
             fmt::join(targets.boxes.sizes(), "x"));
  if (layout.keypoints > 0) {
    user_check(
        targets.keypoints.defined() && targets.keypoints.sizes() == at::IntArrayRef({objects, layout.keypoints, 3}),
        "the network has {} keypoints per object, the targets have not", layout.keypoints);
  }
  if (objects == 0) return;
  const int64_t lowest = targets.label.min().item<int64_t>(), largest = targets.label.max().item<int64_t>();
  user_check(lowest >= 0 && largest < layout.classes, "an object has class {}, the network has {} classes",
             lowest < 0 ? lowest : largest, layout.classes);
  user_check((targets.boxes.slice(1, 2, 4) > targets.boxes.slice(1, 0, 2)).all().item<bool>(),
             "an object's box has no size");
}

void add_pose_loss(DetectionLoss& loss, const HeadMaps& maps, const Targets& targets, const HeadLayout& layout,
                   const LossOptions& options, const Assignment& assignment, const at::Tensor& cells,
                   const at::Tensor& strides, const at::Tensor& boxes) {
  const at::Tensor at_image = cells.select(1, 0), at_cell = cells.select(1, 1);
  const at::Tensor predicted = decode_keypoints(maps).index({at_image, at_cell});
  at::Tensor labelled = assigned_keypoints(targets, assignment, cells);
  labelled = at::cat({labelled.slice(2, 0, 2) / strides.unsqueeze(1), labelled.slice(2, 2)}, 2);
  const at::Tensor areas = (boxes.slice(1, 2, 4) - boxes.slice(1, 0, 2)).prod(1, true);
  const std::vector<double> sigmas =
      options.keypoint_sigmas.empty() ? default_sigmas(layout.keypoints) : options.keypoint_sigmas;
  user_check(static_cast<int64_t>(sigmas.size()) == layout.keypoints, "{} sigmas were given for {} keypoints",
             sigmas.size(), layout.keypoints);
  loss.keypoints = keypoint_loss(predicted, labelled, areas, sigmas) * options.keypoints;
  if (layout.keypoint_values == 3) {
    const at::Tensor visible = labelled.select(2, 2).ne(0).to(predicted.scalar_type());
    loss.visibility = at::binary_cross_entropy_with_logits(predicted.select(2, 2), visible) * options.visibility;
  }
}

}  // namespace

Targets Targets::to(at::Device device) const {
  return {image.to(device), label.to(device), boxes.to(device), keypoints.defined() ? keypoints.to(device) : keypoints};
}

at::Tensor complete_iou(const at::Tensor& first, const at::Tensor& second) {
  constexpr double kEpsilon = 1e-7;
  const auto side = [](const at::Tensor& boxes, int64_t index) { return boxes.select(-1, index); };
  const at::Tensor width1 = side(first, 2) - side(first, 0), height1 = side(first, 3) - side(first, 1) + kEpsilon;
  const at::Tensor width2 = side(second, 2) - side(second, 0), height2 = side(second, 3) - side(second, 1) + kEpsilon;
  const at::Tensor inner_low = first.slice(-1, 0, 2).maximum(second.slice(-1, 0, 2));
  const at::Tensor inner_high = first.slice(-1, 2, 4).minimum(second.slice(-1, 2, 4));
  const at::Tensor inner = (inner_high - inner_low).clamp_min(0);
  const at::Tensor common = side(inner, 0) * side(inner, 1);
  const at::Tensor iou = common / (width1 * height1 + width2 * height2 - common + kEpsilon);

  const at::Tensor outer =
      first.slice(-1, 2, 4).maximum(second.slice(-1, 2, 4)) - first.slice(-1, 0, 2).minimum(second.slice(-1, 0, 2));
  const at::Tensor diagonal = outer.square().sum(-1) + kEpsilon;
  const at::Tensor shift =
      second.slice(-1, 0, 2) + second.slice(-1, 2, 4) - first.slice(-1, 0, 2) - first.slice(-1, 2, 4);
  const at::Tensor angle = (width2 / height2).atan() - (width1 / height1).atan();
  const at::Tensor aspect = angle.square() * (4 / (std::numbers::pi * std::numbers::pi));
  const at::Tensor weight = (aspect / (1 - iou + aspect + kEpsilon)).detach();
  return iou - shift.square().sum(-1) / 4 / diagonal - aspect * weight;
}

std::vector<double> default_sigmas(int64_t keypoints) {
  if (keypoints == 17) {
    return {.026, .025, .025, .035, .035, .079, .079, .072, .072, .062, .062, .107, .107, .087, .087, .089, .089};
  }
  return std::vector<double>(static_cast<size_t>(keypoints), 1.0 / static_cast<double>(keypoints));
}

at::Tensor DetectionLoss::total() const {
  return (box + classes + distribution + keypoints + visibility) * static_cast<double>(images);
}

DetectionLoss detection_loss(const HeadMaps& maps, const Targets& targets, const HeadLayout& layout,
                             const LossOptions& options) {
  check_targets(targets, layout);
  const at::Tensor boxes = decode_boxes(maps);
  const Assignment assignment = assign(maps.scores.detach().sigmoid(), boxes.detach() * maps.strides,
                                       maps.centers * maps.strides, targets, layout.strides, options.assigner);
  const at::Tensor score_sum = assignment.scores.sum().clamp_min(1);

  DetectionLoss loss;
  loss.images = maps.scores.size(0);
  loss.classes = at::binary_cross_entropy_with_logits(maps.scores, assignment.scores, {}, {}, at::Reduction::Sum) /
                 score_sum * options.classes;
  const at::Tensor cells = assignment.foreground.nonzero();
  const at::Tensor at_image = cells.select(1, 0), at_cell = cells.select(1, 1);
  const at::Tensor strides = maps.strides.index_select(0, at_cell);
  const at::Tensor target_boxes = assignment.boxes.index({at_image, at_cell}) / strides;
  const at::Tensor weight = assignment.scores.index({at_image, at_cell}).sum(1);
  // Without foreground these are sums over nothing: zeros with gradients of zero.
  loss.box =
      ((1 - complete_iou(boxes.index({at_image, at_cell}), target_boxes)) * weight).sum() / score_sum * options.box;
  loss.distribution = (distribution_loss(maps.distances.index({at_image, at_cell}), target_boxes,
                                         maps.centers.index_select(0, at_cell)) *
                       weight)
                          .sum() /
                      score_sum * options.distribution;
  loss.keypoints = layout.keypoints > 0 ? maps.keypoints.slice(1, 0, 0).sum() : at::zeros_like(score_sum);
  loss.visibility = at::zeros_like(score_sum);
  if (layout.keypoints > 0 && cells.size(0) > 0) {
    add_pose_loss(loss, maps, targets, layout, options, assignment, cells, strides, target_boxes);
  }
  return loss;
}

}  // namespace espq::detection
