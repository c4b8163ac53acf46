#pragma once
#include <cstdint>

namespace espq {

/// Numbers of one step of Adam (Kingma and Ba, 2015).
struct AdamStep {
  float mean, square;          ///< kept of what was
  float new_mean, new_square;  ///< taken of what comes
  float root;                  ///< root of the weight that the mean of squares has reached
  float factor;                ///< of the rate, with what the mean is short of
};

/// A step in one pass over memory. `rate`: one per element, or one for all. No two of the arrays overlap.
void adam(const float* gradient, const float* rate, bool one_rate, float* mean, float* square, float* leaf,
          int64_t count, const AdamStep& step);

}  // namespace espq
