#pragma once
#include <ATen/core/Tensor.h>

#include "qat/detection/batches.h"
#include "qat/detection/random.h"

namespace espq::detection {

/// network pixel = scale * original pixel + offset in both directions; scale_x is negative for mirror images.
struct Motion {
  double scale_x = 1, scale_y = 1, offset_x = 0, offset_y = 0;
};

Motion random_motion(Random& random, int64_t image_width, int64_t image_height, const BatchOptions& options);

/// The moved image (uint8 [height, width, 3]) as float [3, height, width] in [0, 1]; what lies outside is grey (114).
at::Tensor move_image(const at::Tensor& image, const Motion& motion, int64_t width, int64_t height);

/// Multiplies hue, saturation and value of a float image [3, H, W] in [0, 1].
at::Tensor change_colors(const at::Tensor& image, double hue, double saturation, double value);

}  // namespace espq::detection
