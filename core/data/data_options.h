#pragma once
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace espq {

/// Pixels across and down.
struct PixelSize {
  int64_t width = 0, height = 0;
  bool operator==(const PixelSize&) const = default;
};

/// How image files become what the network's input takes: first resize or letterbox, then crop, then the numbers
/// (pixel - mean) * scale, pixels being 0 to 255.
struct ImageOptions {
  enum class Color { Rgb, Bgr, Gray };

  std::optional<PixelSize> resize = {};        ///< to this size, whatever becomes of the aspect
  std::optional<int64_t> resize_shorter = {};  ///< the shorter side to this length, the other in proportion
  std::optional<PixelSize> letterbox = {};     ///< as large as fits, the rest gray
  std::optional<PixelSize> crop = {};          ///< from the middle
  std::vector<double> mean = {};               ///< one, or one per channel; none = 0
  std::vector<double> scale = {};              ///< one, or one per channel; none = 1
  Color color = Color::Rgb;
  bool channels_last = false;  ///< [1, height, width, channels], else [1, channels, height, width]

  bool operator==(const ImageOptions&) const = default;
};

/// How files become samples.
struct DataOptions {
  ImageOptions image = {};
  /// Files with more samples (first dimension) are cut into batches of this many; 0 = one file is one batch.
  int64_t batch = 0;
};

/// Inputs where there are no data: every number by itself, from a normal distribution or evenly from a range.
struct DrawnInputs {
  std::optional<std::pair<double, double>> range = {};  ///< none = normal, mean 0 and deviation 1
  int64_t batches = 8;
  uint64_t seed = 0;
};

}  // namespace espq
