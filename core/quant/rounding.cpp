#include "core/quant/rounding.h"

#include <ATen/ATen.h>

#include <cmath>

namespace espq {

at::Tensor round_tensor(const at::Tensor& value, Rounding rounding) {
  return rounding == Rounding::HalfEven ? at::round(value) : at::floor(value + 0.5);
}

double round_scalar(double value, Rounding rounding) {
  return rounding == Rounding::HalfEven ? std::nearbyint(value) : std::floor(value + 0.5);
}

int64_t rounding_shift(int64_t value, int shift, Rounding rounding) {
  if (shift <= 0) return static_cast<int64_t>(static_cast<uint64_t>(value) << -shift);
  if (shift > 62) return 0;
  const int64_t quotient = value >> shift;  // arithmetic shift: floor
  const int64_t remainder = value - (quotient << shift);
  const int64_t half = int64_t{1} << (shift - 1);
  if (remainder != half) return quotient + (remainder > half);
  return rounding == Rounding::HalfUp ? quotient + 1 : quotient + (quotient & 1);
}

}  // namespace espq
