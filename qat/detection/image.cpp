#include "qat/detection/image.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace espq::detection {

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

at::Tensor letterbox(const at::Tensor& image, int64_t width, int64_t height, Placement* placement) {
  const Placement where = letterbox_placement(image.size(1), image.size(0), width, height);
  if (placement != nullptr) *placement = where;
  const auto scaled = [&](int64_t length) { return int64_t(std::nearbyint(double(length) * where.scale)); };
  const std::vector<int64_t> size{std::max<int64_t>(scaled(image.size(0)), 1),
                                  std::max<int64_t>(scaled(image.size(1)), 1)};
  at::Tensor pixels = image.permute({2, 0, 1}).unsqueeze(0).to(at::kFloat).contiguous();
  if (size[0] != image.size(0) || size[1] != image.size(1)) {
    pixels = at::upsample_bilinear2d(pixels, size, false).round();
  }
  at::Tensor result = at::full({3, height, width}, kGrey / 255, at::kFloat);
  result.slice(1, int64_t(where.top), int64_t(where.top) + size[0])
      .slice(2, int64_t(where.left), int64_t(where.left) + size[1])
      .copy_(pixels.squeeze(0) / 255);
  return result;
}

}  // namespace espq::detection
