#include "passes/optimize/adam.h"

#include <cmath>

#include "core/support/vector_clones.h"

namespace espq {
namespace {

constexpr float kEpsilon = 1e-8f;

template <bool one_rate>
__attribute__((always_inline)) inline void row(const float* __restrict gradient, const float* __restrict rate,
                                               float* __restrict mean, float* __restrict square, float* __restrict leaf,
                                               int64_t count, const AdamStep& step) {
  const float short_of = step.root * kEpsilon;
  for (int64_t i = 0; i < count; ++i) {
    const float slope = gradient[i];
    mean[i] = mean[i] * step.mean + slope * step.new_mean;
    square[i] = square[i] * step.square + slope * slope * step.new_square;
    // m / (sqrt(s) / root + epsilon), with one division instead of two.
    const float direction = mean[i] * step.root / (std::sqrt(square[i]) + short_of);
    leaf[i] -= direction * (rate[one_rate ? 0 : i] * step.factor);
  }
}

ESPQ_CLONES void with_one_rate(const float* gradient, const float* rate, float* mean, float* square, float* leaf,
                               int64_t count, AdamStep step) {
  row<true>(gradient, rate, mean, square, leaf, count, step);
}

ESPQ_CLONES void with_rates(const float* gradient, const float* rate, float* mean, float* square, float* leaf,
                            int64_t count, AdamStep step) {
  row<false>(gradient, rate, mean, square, leaf, count, step);
}

}  // namespace

void adam(const float* gradient, const float* rate, bool one_rate, float* mean, float* square, float* leaf,
          int64_t count, const AdamStep& step) {
  (one_rate ? with_one_rate : with_rates)(gradient, rate, mean, square, leaf, count, step);
}

}  // namespace espq
