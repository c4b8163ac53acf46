#include "qat/detection/batches.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <mutex>
#include <numeric>

#include "core/support/error.h"
#include "qat/detection/augment.h"

namespace espq::detection {
namespace {

// Objects of which less is left than this, in pixels or as a part, cannot be learned.
constexpr double kLeastSide = 2, kLeastPart = 0.1;

/// One image of a batch.
struct Example {
  at::Tensor image;
  Placement placement;
  std::vector<int64_t> labels;
  std::vector<float> boxes, keypoints;
};

std::string exchanged(const std::string& name, const std::string& from, const std::string& to) {
  const size_t place = name.find(from);
  return place == std::string::npos ? name : name.substr(0, place) + to + name.substr(place + from.size());
}

}  // namespace

std::vector<size_t> mirrored_keypoints(const std::vector<std::string>& names) {
  std::vector<size_t> result;
  for (size_t i = 0; i < names.size(); ++i) {
    const bool left = names[i].find("left") != std::string::npos;
    const std::string other = left ? exchanged(names[i], "left", "right") : exchanged(names[i], "right", "left");
    const auto found = std::find(names.begin(), names.end(), other);
    result.push_back(found == names.end() ? i : static_cast<size_t>(found - names.begin()));
  }
  return result;
}

struct Batches::Implementation {
  const CocoDataset& data;
  BatchOptions options;
  size_t keypoints;
  std::vector<size_t> mirrored;
  std::vector<std::vector<const CocoAnnotation*>> objects;  ///< of every image
  mutable std::mutex mutex;                                 ///< of what follows
  mutable std::vector<at::Tensor> kept;
  mutable std::vector<size_t> order;  ///< of the images in epoch `order_epoch`
  mutable size_t order_epoch = 0;

  Implementation(const CocoDataset& data, const BatchOptions& options)
      : data(data),
        options(options),
        keypoints(data.keypoint_names().size()),
        mirrored(mirrored_keypoints(data.keypoint_names())),
        objects(data.images.size()),
        kept(data.images.size()) {
    user_check(!data.images.empty(), "the data set has no images");
    user_check(options.batch_size > 0 && options.width > 0 && options.height > 0,
               "batches of {} images of {}x{} pixels are not possible", options.batch_size, options.width,
               options.height);
    for (const CocoAnnotation& object : data.annotations) {
      if (!object.crowd) objects.at(object.image).push_back(&object);
    }
  }

  std::vector<size_t> shuffled(size_t epoch) const {
    std::vector<size_t> result(data.images.size());
    std::iota(result.begin(), result.end(), size_t{0});
    if (!options.shuffle) return result;
    Random random({options.seed, epoch});
    for (size_t i = result.size(); i > 1; --i) {
      std::swap(result[i - 1], result[static_cast<size_t>(random.index(static_cast<int64_t>(i)))]);
    }
    return result;
  }

  /// The images of a batch.
  std::vector<size_t> indexes(size_t epoch, size_t batch) const {
    const std::lock_guard lock(mutex);
    if (order.empty() || order_epoch != epoch) {
      order = shuffled(epoch);
      order_epoch = epoch;
    }
    const auto per_batch = static_cast<size_t>(options.batch_size), begin = batch * per_batch;
    internal_check(begin < order.size(), "no such batch");
    const size_t end = std::min(begin + per_batch, order.size());
    return {order.begin() + std::ptrdiff_t(begin), order.begin() + std::ptrdiff_t(end)};
  }

  at::Tensor load(size_t index) const {
    if (options.keep_images) {
      const std::lock_guard lock(mutex);
      if (kept[index].defined()) return kept[index];
    }
    const CocoImage& image = data.images[index];
    at::Tensor pixels = read_image(image.file);
    user_check(pixels.size(1) == image.width && pixels.size(0) == image.height,
               "{}: has {}x{} pixels, the annotations say {}x{}", image.file.string(), pixels.size(1), pixels.size(0),
               image.width, image.height);
    if (options.keep_images) {
      const std::lock_guard lock(mutex);
      kept[index] = pixels;
    }
    return pixels;
  }

  void add_object(Example& example, const CocoAnnotation& object, const Motion& motion) const {
    const auto x_of = [&](double x) { return motion.scale_x * x + motion.offset_x; };
    const auto y_of = [&](double y) { return motion.scale_y * y + motion.offset_y; };
    const double width = double(options.width), height = double(options.height);
    const double x1 = x_of(object.box[0]), x2 = x_of(object.box[0] + object.box[2]);
    const double left = std::clamp(std::min(x1, x2), 0.0, width), right = std::clamp(std::max(x1, x2), 0.0, width);
    const double top = std::clamp(y_of(object.box[1]), 0.0, height);
    const double bottom = std::clamp(y_of(object.box[1] + object.box[3]), 0.0, height);
    const double whole = std::abs(x2 - x1) * object.box[3] * motion.scale_y;
    if (options.augment) {
      if (right - left < kLeastSide || bottom - top < kLeastSide) return;
      if ((right - left) * (bottom - top) < kLeastPart * whole) return;
    }
    if (right <= left || bottom <= top) return;  // drawn with no width or outside of the image
    example.labels.push_back(static_cast<int64_t>(object.category));
    for (double side : {left, top, right, bottom}) example.boxes.push_back(static_cast<float>(side));
    for (size_t i = 0; i < keypoints; ++i) {
      const size_t from = 3 * (motion.scale_x < 0 ? mirrored[i] : i);
      const bool given = !object.keypoints.empty() && object.keypoints[from + 2] > 0;
      const double x = given ? x_of(object.keypoints[from]) : 0, y = given ? y_of(object.keypoints[from + 1]) : 0;
      const bool inside = given && x >= 0 && x <= width && y >= 0 && y <= height;
      for (double value : {x, y, inside ? object.keypoints[from + 2] : 0.0}) {
        example.keypoints.push_back(static_cast<float>(value));
      }
    }
  }

  Example make(size_t epoch, size_t index) const {
    const at::Tensor pixels = load(index);
    Example example;
    Motion motion;
    if (options.augment) {
      Random random({options.seed, epoch, index});
      motion = random_motion(random, pixels.size(1), pixels.size(0), options);
      const AugmentOptions& change = options.augmentation;
      const auto gain = [&](double most) { return 1 + random.uniform(-most, most); };
      const double hue = gain(change.hue), saturation = gain(change.saturation), value = gain(change.value);
      example.image = change_colors(move_image(pixels, motion, options.width, options.height), hue, saturation, value);
    } else {
      example.image = letterbox(pixels, options.width, options.height, &example.placement);
      const Placement& placement = example.placement;
      motion = {placement.scale, placement.scale, placement.left, placement.top};
    }
    for (const CocoAnnotation* object : objects[index]) add_object(example, *object, motion);
    return example;
  }
};

Batches::Batches(const CocoDataset& data, const BatchOptions& options)
    : implementation_(std::make_unique<Implementation>(data, options)) {}
Batches::~Batches() = default;

size_t Batches::size() const {
  const size_t images = implementation_->data.images.size();
  const auto per_batch = static_cast<size_t>(implementation_->options.batch_size);
  return (images + per_batch - 1) / per_batch;
}

Batch Batches::get(size_t epoch, size_t index) const {
  Batch batch;
  batch.indexes = implementation_->indexes(epoch, index);
  std::vector<Example> examples(batch.indexes.size());
  at::parallel_for(0, static_cast<int64_t>(examples.size()), 1, [&](int64_t begin, int64_t stop) {
    for (int64_t i = begin; i < stop; ++i) {
      examples[static_cast<size_t>(i)] = implementation_->make(epoch, batch.indexes[static_cast<size_t>(i)]);
    }
  });
  std::vector<at::Tensor> images;
  std::vector<int64_t> image_of, labels;
  std::vector<float> boxes, keypoints;
  for (size_t i = 0; i < examples.size(); ++i) {
    const Example& example = examples[i];
    images.push_back(example.image);
    batch.placements.push_back(example.placement);
    image_of.insert(image_of.end(), example.labels.size(), static_cast<int64_t>(i));
    labels.insert(labels.end(), example.labels.begin(), example.labels.end());
    boxes.insert(boxes.end(), example.boxes.begin(), example.boxes.end());
    keypoints.insert(keypoints.end(), example.keypoints.begin(), example.keypoints.end());
  }
  batch.images = at::stack(images);
  batch.targets.image = at::tensor(image_of, at::kLong);
  batch.targets.label = at::tensor(labels, at::kLong);
  batch.targets.boxes = at::tensor(boxes, at::kFloat).reshape({-1, 4});
  const auto points = static_cast<int64_t>(implementation_->keypoints);
  if (points > 0) {
    batch.targets.keypoints =
        at::tensor(keypoints, at::kFloat).reshape({static_cast<int64_t>(labels.size()), points, 3});
  }
  return batch;
}

std::vector<CocoDetection> to_original(const std::vector<std::vector<DetectedObject>>& found, const Batch& batch,
                                       const CocoDataset& data) {
  std::vector<CocoDetection> result;
  for (size_t i = 0; i < found.size(); ++i) {
    const CocoImage& image = data.images.at(batch.indexes.at(i));
    const Placement& placement = batch.placements.at(i);
    const auto x_of = [&](float x) { return std::clamp(placement.to_original_x(x), 0.0, double(image.width)); };
    const auto y_of = [&](float y) { return std::clamp(placement.to_original_y(y), 0.0, double(image.height)); };
    for (const DetectedObject& object : found[i]) {
      CocoDetection detection{batch.indexes[i], static_cast<size_t>(object.label), object.score};
      const double left = x_of(object.box[0]), top = y_of(object.box[1]);
      detection.box = {left, top, x_of(object.box[2]) - left, y_of(object.box[3]) - top};
      for (size_t k = 0; k + 2 < object.keypoints.size(); k += 3) {
        for (double value :
             {x_of(object.keypoints[k]), y_of(object.keypoints[k + 1]), double(object.keypoints[k + 2])}) {
          detection.keypoints.push_back(value);
        }
      }
      result.push_back(std::move(detection));
    }
  }
  return result;
}

}  // namespace espq::detection
