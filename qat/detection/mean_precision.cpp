// COCO's rules of evaluation: which detection counts for which object, and the mean of the interpolated precision.
#include "qat/detection/mean_precision.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/support/error.h"

namespace espq::detection {
namespace {

constexpr size_t kThresholds = 10, kRecallPoints = 101;
constexpr double kEpsilon = std::numeric_limits<double>::epsilon();

double threshold(size_t index) { return index + 1 == kThresholds ? 0.95 : 0.5 + double(index) * ((0.95 - 0.5) / 9); }

struct AreaRange {
  double low, high;
  bool holds(double area) const { return low <= area && area <= high; }
};
constexpr AreaRange kAll{0, 1e10}, kSmall{0, 32 * 32}, kMedium{32 * 32, 96 * 96}, kLarge{96 * 96, 1e10};

/// Objects and detections of one image and category.
struct Scene {
  std::vector<const CocoAnnotation*> objects;
  std::vector<const CocoDetection*> found;  ///< best score first
  std::vector<double> areas;                ///< of the detections
  std::vector<double> similarity;           ///< [found][objects]
  std::vector<bool> ignored;                ///< objects that may be found but need not
};
using Category = std::vector<Scene>;  ///< in the order of the images

/// What became of the detections of a scene at one threshold.
struct Outcome {
  std::vector<bool> matched, ignored;
};

// ------------------------------------------------------------------------------------------------ similarity

double box_similarity(const CocoDetection& found, const CocoAnnotation& object) {
  const CocoBox &a = found.box, &b = object.box;
  const double width = std::min(a[0] + a[2], b[0] + b[2]) - std::max(a[0], b[0]);
  const double height = std::min(a[1] + a[3], b[1] + b[3]) - std::max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  const double common = width * height, own = a[2] * a[3];
  return common / (object.crowd ? own : own + b[2] * b[3] - common);
}

double keypoint_similarity(const CocoDetection& found, const CocoAnnotation& object,
                           const std::vector<double>& sigmas) {
  const size_t labelled = object.labelled_keypoints();
  // An object without labelled keypoints takes up detections within its box, made twice as large to every side.
  const auto outside = [](double value, double start, double length) {
    return std::max(0.0, start - length - value) + std::max(0.0, value - start - 2 * length);
  };
  double sum = 0;
  for (size_t i = 0; i < sigmas.size(); ++i) {
    const double x = found.keypoints[3 * i], y = found.keypoints[3 * i + 1];
    double dx = outside(x, object.box[0], object.box[2]), dy = outside(y, object.box[1], object.box[3]);
    if (labelled > 0) {
      if (object.keypoints[3 * i + 2] <= 0) continue;
      dx = x - object.keypoints[3 * i];
      dy = y - object.keypoints[3 * i + 1];
    }
    sum += std::exp(-(dx * dx + dy * dy) / (4 * sigmas[i] * sigmas[i]) / (object.area + kEpsilon) / 2);
  }
  return sum / double(labelled > 0 ? labelled : sigmas.size());
}

/// COCO takes a detected pose as large as the box around its keypoints.
double keypoint_area(const CocoDetection& found) {
  double low[2] = {1e300, 1e300}, high[2] = {-1e300, -1e300};
  for (size_t i = 0; i < found.keypoints.size(); ++i) {
    if (i % 3 == 2) continue;
    low[i % 3] = std::min(low[i % 3], found.keypoints[i]);
    high[i % 3] = std::max(high[i % 3], found.keypoints[i]);
  }
  return (high[0] - low[0]) * (high[1] - low[1]);
}

// ------------------------------------------------------------------------------------------------ matching

/// Every detection, best first, takes the object that it fits best and that is still free; ignored objects only when
/// no other is left. Crowds can be taken again and again.
Outcome match(const Scene& scene, const AreaRange& range, double least) {
  std::vector<bool> ignored(scene.objects.size());
  for (size_t i = 0; i < ignored.size(); ++i) ignored[i] = scene.ignored[i] || !range.holds(scene.objects[i]->area);
  std::vector<size_t> order(scene.objects.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_partition(order.begin(), order.end(), [&](size_t object) { return !ignored[object]; });

  constexpr size_t kNone = std::numeric_limits<size_t>::max();
  std::vector<bool> taken(scene.objects.size());
  Outcome outcome;
  for (size_t detection = 0; detection < scene.found.size(); ++detection) {
    double best = std::min(least, 1 - 1e-10);
    size_t chosen = kNone;
    for (size_t object : order) {
      if (taken[object] && !scene.objects[object]->crowd) continue;
      if (chosen != kNone && !ignored[chosen] && ignored[object]) break;
      const double similarity = scene.similarity[detection * scene.objects.size() + object];
      if (similarity < best) continue;
      best = similarity;
      chosen = object;
    }
    outcome.matched.push_back(chosen != kNone);
    outcome.ignored.push_back(chosen != kNone ? ignored[chosen] : !range.holds(scene.areas[detection]));
    if (chosen != kNone) taken[chosen] = true;
  }
  return outcome;
}

/// Precision at every recall point, and the recall reached, at one threshold.
struct Curve {
  std::vector<double> precision = std::vector<double>(kRecallPoints, 0.0);
  double recall = 0;
};

struct Answer {
  double score;
  bool correct;
};

Curve make_curve(std::vector<Answer> answers, size_t objects) {
  std::stable_sort(answers.begin(), answers.end(), [](const Answer& a, const Answer& b) { return a.score > b.score; });
  std::vector<double> recall, precision;
  size_t correct = 0;
  for (size_t i = 0; i < answers.size(); ++i) {
    correct += answers[i].correct ? 1 : 0;
    recall.push_back(double(correct) / double(objects));
    precision.push_back(double(correct) / (double(i + 1) + kEpsilon));
  }
  for (size_t i = precision.size(); i-- > 1;) precision[i - 1] = std::max(precision[i - 1], precision[i]);
  Curve curve;
  if (!recall.empty()) curve.recall = recall.back();
  for (size_t point = 0; point < kRecallPoints; ++point) {
    const double wanted = point + 1 == kRecallPoints ? 1.0 : double(point) * 0.01;
    const auto reached = std::lower_bound(recall.begin(), recall.end(), wanted) - recall.begin();
    if (reached < std::ptrdiff_t(recall.size())) curve.precision[point] = precision[size_t(reached)];
  }
  return curve;
}

/// Objects of a category that have to be found.
size_t count_objects(const Category& category, const AreaRange& range) {
  size_t objects = 0;
  for (const Scene& scene : category) {
    for (size_t i = 0; i < scene.objects.size(); ++i) {
      objects += !scene.ignored[i] && range.holds(scene.objects[i]->area) ? 1 : 0;
    }
  }
  return objects;
}

/// Curves of a category at one threshold, one for every limit of detections per image. One matching serves all of
/// them: what a detection takes depends on better ones alone.
std::vector<Curve> limited_curves(const Category& category, const AreaRange& range, double least, size_t objects,
                                  const std::vector<size_t>& limits) {
  std::vector<std::vector<Answer>> answers(limits.size());
  for (const Scene& scene : category) {
    const Outcome outcome = match(scene, range, least);
    for (size_t limit = 0; limit < limits.size(); ++limit) {
      for (size_t i = 0; i < std::min(limits[limit], scene.found.size()); ++i) {
        if (!outcome.ignored[i]) answers[limit].push_back({scene.found[i]->score, outcome.matched[i]});
      }
    }
  }
  std::vector<Curve> curves;
  curves.reserve(answers.size());
  for (std::vector<Answer>& part : answers) curves.push_back(make_curve(std::move(part), objects));
  return curves;
}

struct Summary {
  double precision = -1, recall = -1, precision50 = -1, precision75 = -1, recall50 = -1, recall75 = -1;
  std::array<double*, 6> values() { return {&precision, &recall, &precision50, &precision75, &recall50, &recall75}; }
};

/// One summary for every limit of detections per image.
std::vector<Summary> summarize(const std::vector<Category>& categories, const AreaRange& range,
                               const std::vector<size_t>& limits) {
  constexpr size_t kAt50 = 0, kAt75 = 5;
  std::vector<Summary> sums(limits.size(), Summary{0, 0, 0, 0, 0, 0});
  size_t count = 0;
  for (const Category& category : categories) {
    const size_t objects = count_objects(category, range);
    if (objects == 0) continue;
    ++count;
    for (size_t t = 0; t < kThresholds; ++t) {
      const std::vector<Curve> curves = limited_curves(category, range, threshold(t), objects, limits);
      for (size_t limit = 0; limit < limits.size(); ++limit) {
        const Curve& curve = curves[limit];
        const double precision =
            std::accumulate(curve.precision.begin(), curve.precision.end(), 0.0) / double(kRecallPoints);
        sums[limit].precision += precision / double(kThresholds);
        sums[limit].recall += curve.recall / double(kThresholds);
        if (t == kAt50) sums[limit].precision50 += precision, sums[limit].recall50 += curve.recall;
        if (t == kAt75) sums[limit].precision75 += precision, sums[limit].recall75 += curve.recall;
      }
    }
  }
  if (count == 0) return std::vector<Summary>(limits.size());
  for (Summary& sum : sums) {
    for (double* value : sum.values()) *value /= double(count);
  }
  return sums;
}

Summary summarize(const std::vector<Category>& categories, const AreaRange& range, size_t limit) {
  return summarize(categories, range, std::vector<size_t>{limit})[0];
}

/// What boxes and keypoints have in common: everything but the numbers that only one of them has.
MeanPrecision mean_precision(const std::vector<Category>& categories, const Summary& all, size_t limit) {
  const Summary medium = summarize(categories, kMedium, limit), large = summarize(categories, kLarge, limit);
  MeanPrecision result;
  result.map = all.precision;
  result.map50 = all.precision50;
  result.map75 = all.precision75;
  result.recall = all.recall;
  result.medium = medium.precision;
  result.recall_medium = medium.recall;
  result.large = large.precision;
  result.recall_large = large.recall;
  return result;
}

// ------------------------------------------------------------------------------------------------ scenes

/// Similarity and the rest of scenes that hold all objects and detections, of which the best `limit` stay.
template <typename Similarity, typename Area, typename Ignored>
std::vector<Category> make_scenes(const CocoDataset& truth, const std::vector<CocoDetection>& found, size_t limit,
                                  Similarity similarity, Area area, Ignored ignored) {
  std::vector<Category> categories(truth.categories.size(), Category(truth.images.size()));
  for (const CocoAnnotation& object : truth.annotations) {
    categories.at(object.category).at(object.image).objects.push_back(&object);
  }
  for (const CocoDetection& detection : found) {
    user_check(detection.category < categories.size() && detection.image < truth.images.size(),
               "a detection names image {} and category {}; the annotations have {} images and {} categories",
               detection.image, detection.category, truth.images.size(), categories.size());
    categories[detection.category][detection.image].found.push_back(&detection);
  }
  for (Category& category : categories) {
    for (Scene& scene : category) {
      std::stable_sort(scene.found.begin(), scene.found.end(),
                       [](const CocoDetection* a, const CocoDetection* b) { return a->score > b->score; });
      if (scene.found.size() > limit) scene.found.resize(limit);
      for (const CocoAnnotation* object : scene.objects) scene.ignored.push_back(object->crowd || ignored(*object));
      for (const CocoDetection* detection : scene.found) {
        scene.areas.push_back(area(*detection));
        for (const CocoAnnotation* object : scene.objects) scene.similarity.push_back(similarity(*detection, *object));
      }
    }
  }
  return categories;
}

}  // namespace

MeanPrecision box_precision(const CocoDataset& truth, const std::vector<CocoDetection>& found) {
  constexpr size_t kLimit = 100;
  const std::vector<Category> categories = make_scenes(
      truth, found, kLimit, box_similarity, [](const CocoDetection& d) { return d.box[2] * d.box[3]; },
      [](const CocoAnnotation&) { return false; });
  const std::vector<Summary> all = summarize(categories, kAll, {kLimit, 10, 1});
  MeanPrecision result = mean_precision(categories, all[0], kLimit);
  result.recall_10 = all[1].recall;
  result.recall_1 = all[2].recall;
  const Summary small = summarize(categories, kSmall, kLimit);
  result.small = small.precision;
  result.recall_small = small.recall;
  return result;
}

MeanPrecision keypoint_precision(const CocoDataset& truth, const std::vector<CocoDetection>& found,
                                 const std::vector<double>& sigmas) {
  constexpr size_t kLimit = 20;
  for (const CocoDetection& detection : found) {
    user_check(detection.keypoints.size() == 3 * sigmas.size(),
               "a detection has {} numbers for keypoints; expected x, y and visibility of {}",
               detection.keypoints.size(), sigmas.size());
  }
  for (const CocoAnnotation& object : truth.annotations) {
    user_check(object.keypoints.empty() || object.keypoints.size() == 3 * sigmas.size(),
               "an annotation has {} numbers for keypoints; expected x, y and visibility of {}",
               object.keypoints.size(), sigmas.size());
  }
  const std::vector<Category> categories = make_scenes(
      truth, found, kLimit,
      [&](const CocoDetection& d, const CocoAnnotation& o) { return keypoint_similarity(d, o, sigmas); }, keypoint_area,
      [](const CocoAnnotation& object) { return object.labelled_keypoints() == 0; });
  const Summary all = summarize(categories, kAll, kLimit);
  MeanPrecision result = mean_precision(categories, all, kLimit);
  result.recall50 = all.recall50;
  result.recall75 = all.recall75;
  return result;
}

}  // namespace espq::detection
