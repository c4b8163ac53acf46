#include "core/data/image.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace espq {

Placement letterbox_placement(int64_t image_width, int64_t image_height, int64_t width, int64_t height) {
  Placement placement;
  placement.scale = std::min(double(height) / double(image_height), double(width) / double(image_width));
  const auto offset = [&](int64_t length, int64_t image_length) {
    const double rest = (double(length) - std::nearbyint(double(image_length) * placement.scale)) / 2;
    return std::nearbyint(rest - 0.1);  // half pixels go to the far side
  };
  placement.left = offset(width, image_width);
  placement.top = offset(height, image_height);
  return placement;
}

at::Tensor resized_pixels(const at::Tensor& image, int64_t width, int64_t height) {
  const at::Tensor pixels = image.permute({2, 0, 1}).unsqueeze(0).to(at::kFloat).contiguous();
  if (height == image.size(0) && width == image.size(1)) return pixels.squeeze(0);
  return at::upsample_bilinear2d(pixels, {height, width}, false).round().squeeze(0);
}

at::Tensor letterbox_pixels(const at::Tensor& image, int64_t width, int64_t height, Placement* placement) {
  const Placement where = letterbox_placement(image.size(1), image.size(0), width, height);
  if (placement != nullptr) *placement = where;
  const auto scaled = [&](int64_t length) {
    return std::max<int64_t>(int64_t(std::nearbyint(double(length) * where.scale)), 1);
  };
  const at::Tensor pixels = resized_pixels(image, scaled(image.size(1)), scaled(image.size(0)));
  at::Tensor result = at::full({3, height, width}, kGrey, at::kFloat);
  result.slice(1, int64_t(where.top), int64_t(where.top) + pixels.size(1))
      .slice(2, int64_t(where.left), int64_t(where.left) + pixels.size(2))
      .copy_(pixels);
  return result;
}

at::Tensor letterbox(const at::Tensor& image, int64_t width, int64_t height, Placement* placement) {
  return letterbox_pixels(image, width, height, placement) / 255;
}

}  // namespace espq
