#include "qat/detection/shapes.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>

#include "core/data/image.h"
#include "core/support/error.h"
#include "qat/detection/random.h"

namespace espq::detection {
namespace {

struct Point {
  double x = 0, y = 0;
  Point operator+(Point other) const { return {x + other.x, y + other.y}; }
  Point operator-(Point other) const { return {x - other.x, y - other.y}; }
  Point operator*(double factor) const { return {x * factor, y * factor}; }
  double length() const { return std::hypot(x, y); }
};
double dot(Point a, Point b) { return a.x * b.x + a.y * b.y; }

using Color = std::array<double, 3>;

Color random_color(Random& random) { return {random.uniform(0, 255), random.uniform(0, 255), random.uniform(0, 255)}; }

double difference(const Color& a, const Color& b) {
  return std::abs(a[0] - b[0]) + std::abs(a[1] - b[1]) + std::abs(a[2] - b[2]);
}

// Distances to the outline of shapes about as large as [-1, 1]; negative inside.
double disk(Point p) { return p.length() - 1; }
double rectangle(Point p, double half_width, double half_height) {
  const double x = std::abs(p.x) - half_width, y = std::abs(p.y) - half_height;
  return std::max(x, y);
}
double square(Point p) { return rectangle(p, 0.8, 0.8); }
double cross(Point p) { return std::min(rectangle(p, 1, 0.3), rectangle(p, 0.3, 1)); }
double triangle(Point p) {
  constexpr double kSin = 0.8660254037844386, kInner = 0.5;  // corners on the unit circle, one above
  return std::max({p.y - kInner, -kSin * p.x - 0.5 * p.y - kInner, kSin * p.x - 0.5 * p.y - kInner});
}
double limb(Point p, Point from, Point to, double radius) {
  const Point along = to - from;
  const double part = std::clamp(dot(p - from, along) / dot(along, along), 0.0, 1.0);
  return (p - from - along * part).length() - radius;
}

/// A stick figure in its own coordinates; the first point is the head.
struct Figure {
  std::array<Point, 5> points;
  explicit Figure(Random& random) {
    const auto around = [&](double x, double y, double by) {
      return Point{x + random.uniform(-by, by), y + random.uniform(-by, by)};
    };
    // The figure looks at us: its left is on the right of the image.
    points = {Point{0, -0.75}, around(0.65, -0.15, 0.25), around(-0.65, -0.15, 0.25), around(0.35, 0.85, 0.15),
              around(-0.35, 0.85, 0.15)};
  }
  double distance(Point p) const {
    const Point shoulders{0, -0.4}, hips{0, 0.2};
    double result = std::min((p - points[0]).length() - 0.24, limb(p, shoulders, hips, 0.12));
    for (size_t hand : {1, 2}) result = std::min(result, limb(p, shoulders, points[hand], 0.09));
    for (size_t foot : {3, 4}) result = std::min(result, limb(p, hips, points[foot], 0.09));
    return result;
  }
};

/// Pixels that an object may reach.
struct Window {
  int64_t left, top, right, bottom;
};

/// An image that is being drawn, with what each object covers.
class Canvas {
 public:
  Canvas(int64_t width, int64_t height, Random& random) : width_(width), height_(height) {
    background_ = random_color(random);
    const Color other = random_color(random);
    const double angle = random.uniform(0, 2 * std::numbers::pi), noise = random.uniform(2, 25);
    pixels_.resize(static_cast<size_t>(width * height));
    for (int64_t y = 0; y < height; ++y) {
      for (int64_t x = 0; x < width; ++x) {
        const double part =
            0.35 * (std::cos(angle) * double(x) / double(width) + std::sin(angle) * double(y) / double(height));
        for (size_t c = 0; c < 3; ++c) {
          at(x, y)[c] = background_[c] + part * (other[c] - background_[c]) + random.uniform(-noise, noise);
        }
      }
    }
    owner_.assign(pixels_.size(), -1);
  }
  const Color& background() const { return background_; }

  /// Colors the pixels where `distance` (in pixels) is negative; they belong to `object` from now on. Returns how many.
  template <typename Distance>
  int64_t draw(Distance distance, const Window& window, const Color& color, int object) {
    int64_t count = 0;
    for (int64_t y = window.top; y < window.bottom; ++y) {
      for (int64_t x = window.left; x < window.right; ++x) {
        const double part = std::clamp(0.5 - distance(Point{double(x) + 0.5, double(y) + 0.5}), 0.0, 1.0);
        if (part <= 0) continue;
        for (size_t c = 0; c < 3; ++c) at(x, y)[c] += part * (color[c] - at(x, y)[c]);
        if (part < 0.5) continue;
        owner_[static_cast<size_t>(y * width_ + x)] = object;
        ++count;
      }
    }
    return count;
  }
  int owner(Point p) const {
    const auto x = static_cast<int64_t>(p.x), y = static_cast<int64_t>(p.y);
    return p.x < 0 || p.y < 0 || x >= width_ || y >= height_ ? -1 : owner_[static_cast<size_t>(y * width_ + x)];
  }
  int64_t visible(int object) const { return std::count(owner_.begin(), owner_.end(), object); }

  at::Tensor image() const {
    at::Tensor result = at::empty({height_, width_, 3}, at::kByte);
    uint8_t* target = result.data_ptr<uint8_t>();
    for (const Color& pixel : pixels_) {
      for (double value : pixel) *target++ = static_cast<uint8_t>(std::lround(std::clamp(value, 0.0, 255.0)));
    }
    return result;
  }

 private:
  Color& at(int64_t x, int64_t y) { return pixels_[static_cast<size_t>(y * width_ + x)]; }
  int64_t width_, height_;
  Color background_{};
  std::vector<Color> pixels_;
  std::vector<int> owner_;  ///< topmost object of every pixel, -1 = background
};

/// Where an object stands: own coordinates times `size`, turned by `turn`, moved to `middle`.
struct Pose {
  Point middle;
  double size, turn;
  Point to_image(Point p) const {
    return middle +
           Point{std::cos(turn) * p.x - std::sin(turn) * p.y, std::sin(turn) * p.x + std::cos(turn) * p.y} * size;
  }
  Point to_object(Point p) const {
    const Point q = (p - middle) * (1 / size);
    return {std::cos(turn) * q.x + std::sin(turn) * q.y, -std::sin(turn) * q.x + std::cos(turn) * q.y};
  }
  /// No shape or figure reaches further than 1.25 times `size`, and half a pixel more is blended.
  Window window(int64_t width, int64_t height) const {
    const double reach = 1.3 * size + 2;
    const auto cut = [](double value, int64_t most) { return std::clamp<int64_t>(std::llround(value), 0, most); };
    return {cut(middle.x - reach, width), cut(middle.y - reach, height), cut(middle.x + reach, width),
            cut(middle.y + reach, height)};
  }
};

/// The box of pixels where `distance` is negative, whether something covers them or not.
template <typename Distance>
CocoBox box_of(Distance distance, const Window& window) {
  int64_t left = window.right, top = window.bottom, right = 0, bottom = 0;
  for (int64_t y = window.top; y < window.bottom; ++y) {
    for (int64_t x = window.left; x < window.right; ++x) {
      if (distance(Point{double(x) + 0.5, double(y) + 0.5}) > 0) continue;
      left = std::min(left, x);
      top = std::min(top, y);
      right = std::max(right, x + 1);
      bottom = std::max(bottom, y + 1);
    }
  }
  return {double(left), double(top), double(right - left), double(bottom - top)};
}

/// Draws the objects of one image; returns them without those that others hide almost entirely.
class Scenery {
 public:
  Scenery(const ShapesOptions& options, size_t image, Random& random)
      : options_(options), image_(image), random_(random), canvas_(options.width, options.height, random) {
    const int64_t count = random.index(options.most_objects + 1);
    for (int object = 0; object < count; ++object) add(object);
  }
  at::Tensor image() const { return canvas_.image(); }
  std::vector<CocoAnnotation> objects() const {
    std::vector<CocoAnnotation> result;
    for (size_t object = 0; object < objects_.size(); ++object) {
      const int64_t seen = canvas_.visible(static_cast<int>(object));
      if (seen < 0.35 * objects_[object].area) continue;
      result.push_back(objects_[object]);
      std::vector<double>& keypoints = result.back().keypoints;
      for (size_t i = 0; i + 2 < keypoints.size(); i += 3) {
        const bool visible = canvas_.owner({keypoints[i], keypoints[i + 1]}) == static_cast<int>(object);
        keypoints[i + 2] = visible ? 2 : 1;
      }
    }
    return result;
  }

 private:
  Color random_object_color() {
    Color color = random_color(random_);
    while (difference(color, canvas_.background()) < 150) color = random_color(random_);
    return color;
  }

  void add(int object) {
    const bool figures = options_.kind == ShapeKind::Figures;
    const double side = double(std::min(options_.width, options_.height));
    Pose pose;
    pose.size = side * (figures ? random_.uniform(0.13, 0.32) : random_.uniform(0.06, 0.25));
    pose.turn = figures ? random_.uniform(-0.4, 0.4) : random_.uniform(0, 2 * std::numbers::pi);
    pose.middle = {random_.uniform(pose.size, double(options_.width) - pose.size),
                   random_.uniform(pose.size, double(options_.height) - pose.size)};
    CocoAnnotation annotation;
    annotation.image = image_;
    constexpr double (*kShapes[])(Point) = {disk, square, triangle, cross};
    annotation.category = figures ? 0 : static_cast<size_t>(random_.index(std::ssize(kShapes)));
    std::optional<Figure> figure;
    if (figures) figure.emplace(random_);
    const auto distance = [&](Point p) {
      const Point q = pose.to_object(p);
      return pose.size * (figure ? figure->distance(q) : kShapes[annotation.category](q));
    };
    const Window window = pose.window(options_.width, options_.height);
    annotation.box = box_of(distance, window);
    annotation.area = double(canvas_.draw(distance, window, random_object_color(), object));
    if (figure) {
      for (Point point : figure->points) {
        const Point p = pose.to_image(point);
        annotation.keypoints.insert(annotation.keypoints.end(), {p.x, p.y, 2});
      }
    }
    objects_.push_back(std::move(annotation));
  }

  const ShapesOptions& options_;
  size_t image_;
  Random& random_;
  Canvas canvas_;
  std::vector<CocoAnnotation> objects_;
};

}  // namespace

CocoDataset write_shapes(const std::filesystem::path& folder, const ShapesOptions& options) {
  user_check(options.images > 0 && options.width >= 16 && options.height >= 16,
             "{} images of {}x{} pixels cannot be drawn", options.images, options.width, options.height);
  CocoDataset data;
  if (options.kind == ShapeKind::Figures) {
    data.categories = {{1, "figure", {"head", "left_hand", "right_hand", "left_foot", "right_foot"}}};
  } else {
    data.categories = {{1, "disk"}, {2, "square"}, {3, "triangle"}, {4, "cross"}};
  }
  const std::filesystem::path images = folder / "images";
  std::error_code error;
  std::filesystem::create_directories(images, error);
  user_check(!error, "{}: cannot be created ({})", images.string(), error.message());
  for (int64_t i = 0; i < options.images; ++i) {
    Random random({options.seed, static_cast<uint64_t>(options.kind), static_cast<uint64_t>(i)});
    const Scenery scenery(options, static_cast<size_t>(i), random);
    data.images.push_back({i + 1, images / fmt::format("{:06}.png", i + 1), options.width, options.height});
    write_png(data.images.back().file, scenery.image());
    for (CocoAnnotation& object : scenery.objects()) data.annotations.push_back(std::move(object));
  }
  write_coco(folder / "annotations.json", data);
  return data;
}

}  // namespace espq::detection
