#pragma once
#include <limits>
#include <vector>

#include "core/quant/rounding.h"

namespace espq {

/// The integers that a tensor may hold, times a power of two: codes * 2^exponent.
struct Grid {
  int bits = 0;  ///< 8, 16 (activations, weights), wider for biases; 0 = not quantized (float, int64, bool)
  std::vector<int> exponents = {};  ///< one, or one per output channel
  int exponent() const { return exponents.at(0); }
  bool quantized() const { return bits != 0; }
  bool operator==(const Grid&) const = default;
};

/// max(low, min(x, high)), as Clip has it: the upper bound decides where they cross.
struct ClipBounds {
  float low = -std::numeric_limits<float>::infinity();
  float high = std::numeric_limits<float>::infinity();
};

/// Everything that decides how a tensor is rounded while its network trains.
struct GridRounding {
  Grid grid = {};  ///< 0 bits: the tensor comes as it is used
  int channel_axis = -1;
  Rounding rounding = Rounding::HalfEven;
  bool masked = true;  ///< no gradient where the value was clipped

  bool per_tensor() const { return channel_axis < 0; }
};

}  // namespace espq
