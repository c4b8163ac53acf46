#include "qat/detection/augment.h"

#include <ATen/ATen.h>

#include <cmath>

namespace espq::detection {
namespace {

constexpr double kFill = kGrey / 255;

/// Where the middles of `length` pixels come from, in grid_sampler's units: -1 and 1 are the edges of the original.
at::Tensor sources(int64_t length, double scale, double offset, int64_t original) {
  return ((at::arange(length, at::kDouble) + 0.5 - offset) / scale * (2.0 / double(original)) - 1).to(at::kFloat);
}

}  // namespace

Motion random_motion(Random& random, int64_t image_width, int64_t image_height, const BatchOptions& options) {
  const AugmentOptions& change = options.augmentation;
  const double fit = letterbox_placement(image_width, image_height, options.width, options.height).scale;
  Motion motion;
  motion.scale_y = fit * random.uniform(1 - change.scale, 1 + change.scale);
  motion.scale_x = random.uniform(0, 1) < change.flip ? -motion.scale_y : motion.scale_y;
  const double middle_x = double(options.width) * (0.5 + random.uniform(-change.translate, change.translate));
  const double middle_y = double(options.height) * (0.5 + random.uniform(-change.translate, change.translate));
  // Whole pixels: an image that keeps its size stays as sharp as it is.
  motion.offset_x = std::round(middle_x - motion.scale_x * double(image_width) / 2);
  motion.offset_y = std::round(middle_y - motion.scale_y * double(image_height) / 2);
  return motion;
}

at::Tensor move_image(const at::Tensor& image, const Motion& motion, int64_t width, int64_t height) {
  const at::Tensor pixels = image.permute({2, 0, 1}).unsqueeze(0).to(at::kFloat) / 255 - kFill;
  const at::Tensor x = sources(width, motion.scale_x, motion.offset_x, image.size(1)).expand({height, width});
  const at::Tensor y =
      sources(height, motion.scale_y, motion.offset_y, image.size(0)).unsqueeze(1).expand({height, width});
  const at::Tensor grid = at::stack({x, y}, 2).unsqueeze(0);
  constexpr int64_t kBilinear = 0, kZeros = 0;
  return at::grid_sampler(pixels.contiguous(), grid, kBilinear, kZeros, false).squeeze(0) + kFill;
}

at::Tensor change_colors(const at::Tensor& image, double hue, double saturation, double value) {
  const at::Tensor highest = image.amax(0), lowest = image.amin(0), spread = highest - lowest;
  const at::Tensor safe = spread.clamp_min(1e-6);
  // Hue in sixths of the circle: which component is the highest, and how the two others compare.
  const at::Tensor red = image[0], green = image[1], blue = image[2];
  at::Tensor turn = at::where(highest == red, (green - blue) / safe,
                              at::where(highest == green, (blue - red) / safe + 2, (red - green) / safe + 4));
  turn = (turn.remainder(6) * hue).remainder(6);
  const at::Tensor strength = (spread / highest.clamp_min(1e-6) * saturation).clamp(0, 1);
  const at::Tensor bright = (highest * value).clamp(0, 1);
  std::vector<at::Tensor> components;
  for (double shift : {5.0, 3.0, 1.0}) {  // red, green, blue
    const at::Tensor position = (turn + shift).remainder(6);
    components.push_back(bright * (1 - strength * position.minimum(4 - position).clamp(0, 1)));
  }
  return at::stack(components);
}

}  // namespace espq::detection
