#include "qat/detection/detect.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace espq::detection {
namespace {

float overlap(const std::array<float, 4>& a, const std::array<float, 4>& b) {
  const float width = std::min(a[2], b[2]) - std::max(a[0], b[0]);
  const float height = std::min(a[3], b[3]) - std::max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  const auto area = [](const std::array<float, 4>& box) { return (box[2] - box[0]) * (box[3] - box[1]); };
  return width * height / (area(a) + area(b) - width * height);
}

struct Candidate {
  int64_t cell, label;
  float score;
  std::array<float, 4> box;
};

/// Best first.
std::vector<Candidate> candidates_of(const at::Tensor& boxes, const at::Tensor& scores,
                                     const SuppressionOptions& options) {
  const auto box = boxes.accessor<float, 2>();
  const auto score = scores.accessor<float, 2>();
  std::vector<Candidate> candidates;
  for (int64_t cell = 0; cell < score.size(0); ++cell) {
    for (int64_t label = 0; label < score.size(1); ++label) {
      if (score[cell][label] <= static_cast<float>(options.confidence)) continue;
      candidates.push_back({cell, label, score[cell][label], {box[cell][0], box[cell][1], box[cell][2], box[cell][3]}});
    }
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.score > b.score; });
  if (static_cast<int64_t>(candidates.size()) > options.candidates) {
    candidates.resize(static_cast<size_t>(options.candidates));
  }
  return candidates;
}

}  // namespace

std::vector<std::vector<DetectedObject>> suppress(const at::Tensor& boxes, const at::Tensor& scores,
                                                  const at::Tensor& keypoints, const SuppressionOptions& options) {
  const auto prepare = [](const at::Tensor& tensor) { return tensor.detach().to(at::kCPU, at::kFloat).contiguous(); };
  const at::Tensor all_boxes = prepare(boxes), all_scores = prepare(scores);
  const at::Tensor all_keypoints = keypoints.defined() ? prepare(keypoints).flatten(2) : at::Tensor();
  std::vector<std::vector<DetectedObject>> result(static_cast<size_t>(boxes.size(0)));
  for (int64_t image = 0; image < boxes.size(0); ++image) {
    std::vector<DetectedObject>& kept = result[static_cast<size_t>(image)];
    for (const Candidate& candidate : candidates_of(all_boxes[image], all_scores[image], options)) {
      if (static_cast<int64_t>(kept.size()) >= options.limit) break;
      const bool better = std::any_of(kept.begin(), kept.end(), [&](const DetectedObject& object) {
        return object.label == candidate.label && overlap(object.box, candidate.box) > options.overlap;
      });
      if (better) continue;
      kept.push_back({candidate.label, candidate.score, candidate.box});
      if (!all_keypoints.defined()) continue;
      const at::Tensor points = all_keypoints[image][candidate.cell];
      kept.back().keypoints.assign(points.data_ptr<float>(), points.data_ptr<float>() + points.numel());
    }
  }
  return result;
}

std::vector<std::vector<DetectedObject>> detect(const std::vector<at::Tensor>& maps, const HeadLayout& layout,
                                                const SuppressionOptions& options) {
  const HeadMaps head = gather_maps(maps, layout);
  at::Tensor keypoints;
  if (layout.keypoints > 0) {
    const at::Tensor decoded = decode_keypoints(head);
    const at::Tensor places = decoded.slice(3, 0, 2) * head.strides.unsqueeze(1);
    // Networks that do not say what is visible show everything.
    const at::Tensor visible =
        layout.keypoint_values == 3 ? decoded.slice(3, 2).sigmoid() : at::ones_like(places.slice(3, 0, 1));
    keypoints = at::cat({places, visible}, 3);
  }
  return suppress(decode_boxes(head) * head.strides, head.scores.sigmoid(), keypoints, options);
}

}  // namespace espq::detection
