#pragma once
#include <ATen/core/Tensor.h>

#include <filesystem>

namespace espq {

/// A JPEG or PNG file as RGB bytes, uint8 [height, width, 3]. The content decides, not the name. Transparent pixels
/// stand on black; the orientation that cameras note in EXIF is not applied.
/// Throws UserError naming the file: missing, another format, damaged, cut off.
at::Tensor read_image(const std::filesystem::path& file);

/// uint8 [height, width, 3] as a PNG file, written whole or not at all.
void write_png(const std::filesystem::path& file, const at::Tensor& image);

/// Gray level (0 to 255) of everything on the network's input that the image does not cover.
inline constexpr double kGrey = 114;

/// How an image was placed on the network's input: network pixel = original pixel * scale + offset.
struct Placement {
  double scale = 1, left = 0, top = 0;
  double to_original_x(double x) const { return (x - left) / scale; }
  double to_original_y(double y) const { return (y - top) / scale; }
};

/// The largest placement that shows all of the image in the middle of `width` x `height` pixels.
Placement letterbox_placement(int64_t image_width, int64_t image_height, int64_t width, int64_t height);

/// Scales an image (uint8 [height, width, 3]) with bilinear interpolation between pixel centers, to whole gray levels:
/// float [3, height, width] in 0 to 255.
at::Tensor resized_pixels(const at::Tensor& image, int64_t width, int64_t height);

/// The same as large as it fits, filled up with kGrey.
at::Tensor letterbox_pixels(const at::Tensor& image, int64_t width, int64_t height, Placement* placement = nullptr);
/// letterbox_pixels() over 255.
at::Tensor letterbox(const at::Tensor& image, int64_t width, int64_t height, Placement* placement = nullptr);

}  // namespace espq
