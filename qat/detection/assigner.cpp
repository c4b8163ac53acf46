// Task-aligned assignment; N images, G objects per image (padded), A cells.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "core/support/error.h"
#include "qat/detection/loss.h"

namespace espq::detection {
namespace {

constexpr double kEpsilon = 1e-9;

/// Objects per image, padded to the largest number.
struct Objects {
  at::Tensor boxes;  ///< [N, G, 4] pixels
  at::Tensor label;  ///< [N, G]
  at::Tensor valid;  ///< [N, G] bool
};

Objects pad_objects(const Targets& targets, int64_t images) {
  const at::Tensor count = at::bincount(targets.image, {}, images);
  user_check(count.size(0) == images, "a target belongs to image {}, the batch has {}", count.size(0) - 1, images);
  user_check((targets.image.diff() >= 0).all().item<bool>(), "targets have to be sorted by image");
  const int64_t most = count.max().item<int64_t>();
  const at::Tensor first = count.cumsum(0) - count;
  const at::Tensor position =
      at::arange(targets.image.numel(), targets.image.options()) - first.index_select(0, targets.image);
  Objects objects;
  objects.boxes = at::zeros({images, most, 4}, targets.boxes.options());
  objects.label = at::zeros({images, most}, targets.label.options());
  objects.boxes.index_put_({targets.image, position}, targets.boxes);
  objects.label.index_put_({targets.image, position}, targets.label);
  objects.valid = at::arange(most, count.options()).unsqueeze(0) < count.unsqueeze(1);
  return objects;
}

/// [N, G, A] bool: is the middle of the cell inside the object's box, no side of which counts as less than `shortest`.
at::Tensor cells_inside(const Objects& objects, const at::Tensor& centers, double shortest) {
  const at::Tensor low = objects.boxes.slice(2, 0, 2), high = objects.boxes.slice(2, 2, 4);
  const at::Tensor middle = (low + high) / 2, half = (high - low).clamp_min(shortest) / 2;
  const at::Tensor after = centers - (middle - half).unsqueeze(2) > kEpsilon;
  const at::Tensor before = (middle + half).unsqueeze(2) - centers > kEpsilon;
  return after.all(3) & before.all(3) & objects.valid.unsqueeze(2);
}

/// Calls complete_iou for the pairs where `inside` holds; other pairs overlap by zero.
at::Tensor overlaps_where(const at::Tensor& inside, const Objects& objects, const at::Tensor& boxes) {
  const at::Tensor pairs = inside.nonzero();
  const at::Tensor image = pairs.select(1, 0), object = pairs.select(1, 1), cell = pairs.select(1, 2);
  const at::Tensor values = complete_iou(objects.boxes.index({image, object}), boxes.index({image, cell})).clamp_min(0);
  return at::zeros(inside.sizes(), boxes.options()).index_put_({image, object, cell}, values);
}

}  // namespace

Assignment assign(const at::Tensor& scores, const at::Tensor& boxes, const at::Tensor& centers, const Targets& targets,
                  const std::vector<int64_t>& strides, const AssignerOptions& options) {
  const c10::NoGradGuard no_gradients;
  const int64_t images = scores.size(0), cells = scores.size(1);
  Assignment result;
  if (targets.label.numel() == 0) {
    result.foreground = at::zeros({images, cells}, scores.options().dtype(at::kBool));
    result.object = at::zeros({images, cells}, scores.options().dtype(at::kLong));
    result.boxes = at::zeros_like(boxes);
    result.scores = at::zeros_like(scores);
    return result;
  }
  const Objects objects = pad_objects(targets, images);
  const at::Tensor inside =
      cells_inside(objects, centers, static_cast<double>(strides.size() > 1 ? strides[1] : strides[0]));
  const at::Tensor overlap = overlaps_where(inside, objects, boxes);
  const at::Tensor label = objects.label.unsqueeze(2).expand({-1, -1, cells});  // [N, G, A]
  const at::Tensor score = scores.transpose(1, 2).gather(1, label);
  const at::Tensor alignment = at::where(inside, score.pow(options.score_power) * overlap.pow(options.overlap_power),
                                         at::zeros({}, scores.options()));

  const at::Tensor best = std::get<1>(alignment.topk(std::min(options.candidates, cells), 2));
  at::Tensor wanted = at::zeros_like(inside).scatter_(2, best, true) & inside;
  // A cell wanted by several objects learns the one that its box overlaps most.
  const at::Tensor nearest = at::zeros_like(inside).scatter_(1, overlap.argmax(1, true), true);
  wanted = at::where(wanted.sum(1, true) > 1, nearest, wanted);
  result.foreground = wanted.any(1);
  result.object = wanted.to(at::kByte).argmax(1);

  // Scores to learn: the best cell of an object gets the object's largest overlap, others in proportion to alignment.
  const at::Tensor kept = alignment * wanted;
  const at::Tensor normalized = kept * (overlap * wanted).amax(2, true) / (kept.amax(2, true) + kEpsilon);
  const at::Tensor best_score = normalized.amax(1);
  const at::Tensor object_label = objects.label.gather(1, result.object).unsqueeze(2);
  result.boxes = objects.boxes.gather(1, result.object.unsqueeze(2).expand({-1, -1, 4}));
  result.scores = at::zeros_like(scores).scatter_(2, object_label, (best_score * result.foreground).unsqueeze(2));
  return result;
}

}  // namespace espq::detection
