#include "core/data/image_sample.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/data/image.h"
#include "core/support/error.h"

namespace espq {
namespace {

/// [channels, height, width] of whole gray levels, as floats.
at::Tensor in_size(const at::Tensor& image, const ImageOptions& options) {
  if (options.letterbox) return letterbox_pixels(image, options.letterbox->width, options.letterbox->height);
  if (options.resize) return resized_pixels(image, options.resize->width, options.resize->height);
  if (!options.resize_shorter) return image.permute({2, 0, 1}).to(at::kFloat);
  const int64_t height = image.size(0), width = image.size(1), shorter = *options.resize_shorter;
  const auto in_proportion = [&](int64_t length, int64_t other) {
    return static_cast<int64_t>(std::nearbyint(double(shorter) * double(length) / double(other)));
  };
  if (height < width) return resized_pixels(image, in_proportion(width, height), shorter);
  return resized_pixels(image, shorter, in_proportion(height, width));
}

at::Tensor cropped(const at::Tensor& pixels, const PixelSize& size, const std::string& file) {
  const int64_t height = pixels.size(1), width = pixels.size(2);
  user_check(size.height <= height && size.width <= width,
             "{}: has {}x{} pixels, from which {}x{} cannot be cropped; resize it first", file, width, height,
             size.width, size.height);
  return pixels.narrow(1, (height - size.height) / 2, size.height).narrow(2, (width - size.width) / 2, size.width);
}

at::Tensor in_color(const at::Tensor& pixels, ImageOptions::Color color) {
  if (color == ImageOptions::Color::Rgb) return pixels;
  if (color == ImageOptions::Color::Bgr) return pixels.flip(0);
  const at::Tensor weights = at::tensor({0.299, 0.587, 0.114}, at::kDouble).view({3, 1, 1});
  return (pixels.to(at::kDouble) * weights).sum(0, true).round().to(at::kFloat);
}

/// One number for all channels, or one each: [channels or 1, 1, 1].
at::Tensor per_channel(const std::vector<double>& values, int64_t channels, const char* option,
                       const std::string& file) {
  user_check(values.size() == 1 || static_cast<int64_t>(values.size()) == channels,
             "{}: {} has {} numbers, the image has {} channels", file, option, values.size(), channels);
  return at::tensor(values, at::kDouble).view({-1, 1, 1});
}

}  // namespace

bool is_image_file(const std::filesystem::path& file) {
  std::string ending = file.extension().string();
  for (char& character : ending) character = static_cast<char>(std::tolower(static_cast<unsigned char>(character)));
  return ending == ".jpg" || ending == ".jpeg" || ending == ".png";
}

at::Tensor read_image_sample(const std::filesystem::path& file, const ImageOptions& options) {
  at::Tensor pixels = in_size(read_image(file), options);
  if (options.crop) pixels = cropped(pixels, *options.crop, file.string());
  pixels = in_color(pixels, options.color);
  at::Tensor values = pixels.to(at::kDouble);
  if (!options.mean.empty()) values = values - per_channel(options.mean, pixels.size(0), "the mean", file.string());
  if (!options.scale.empty()) values = values * per_channel(options.scale, pixels.size(0), "the scale", file.string());
  values = values.to(at::kFloat);
  if (options.channels_last) values = values.permute({1, 2, 0});
  return values.unsqueeze(0).contiguous();
}

}  // namespace espq
