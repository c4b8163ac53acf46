#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/quant/rounding.h"
#include "core/quant/scheme.h"

// Scalar arithmetic of the chip library 3.3.9, one rounding per operation in the order written. Files that use it are
// compiled without fused multiply-add (core/ops/CMakeLists.txt).
namespace espq::chip {

/// 2^exponent in float32 as the chip library builds it: by a 32-bit shift whose count is taken modulo 32, so that
/// |exponent| = 31 changes the sign and larger ones wrap around.
inline float scale(int exponent) {
  const int magnitude = exponent < 0 ? -exponent : exponent;
  const auto power = static_cast<float>(static_cast<int32_t>(uint32_t{1} << (magnitude & 31)));
  return exponent > 0 ? power : 1.0f / power;
}

/// 2^-exponent, built the same way.
inline float inverse_scale(int exponent) { return scale(-exponent); }

/// float32 -> integer as the chip does it, then saturated to [low, high], a range of less than 2^22 on either side.
/// Half-up adds 0.5 in double and narrows the sum to float32, which is the float32 sum (0.49999997 becomes 1);
/// half-even is the exact conversion instruction. NaN gives `high`, as RISC-V does. Written without branches, so that
/// loops become vector code: saturating first changes nothing (the limits are integers), and adding 1.5 * 2^23 leaves
/// no fraction bits.
struct Rounder {
  Rounding rounding;
  float low, high;
  float half, step;  ///< added before, taken off where that rounded up: 0.5 and 1 for half-up, 0 for half-even

  Rounder(Rounding mode, float lowest, float highest)
      : rounding(mode),
        low(lowest),
        high(highest),
        half(mode == Rounding::HalfUp ? 0.5f : 0.0f),
        step(mode == Rounding::HalfUp ? 1.0f : 0.0f) {}
  /// For the grid of `bits` bits.
  Rounder(Rounding mode, int bits)
      : Rounder(mode, static_cast<float>(quant_min(bits)), static_cast<float>(quant_max(bits))) {}

  /// Rounds toward minus infinity.
  static Rounder down(int bits) {
    Rounder result(Rounding::HalfUp, bits);
    result.half = 0.0f;
    return result;
  }

  float operator()(float value) const {
    constexpr float kShifter = 12582912.0f;
    value = value < high ? value : high;
    value = value > low ? value : low;
    const float shifted = value + half, nearest = (shifted + kShifter) - kShifter;
    return nearest - (nearest > shifted ? step : 0.0f);
  }
};

/// value / 2^shift with the target's rounding on 64-bit integers, inline form of rounding_shift for inner loops.
/// Left shifts saturate at `limit_bits` bits, the width of the chip's accumulator.
inline int64_t rounding_right_shift(int64_t value, int shift, Rounding rounding, int limit_bits = 32) {
  if (shift <= 0) {
    const auto limit = static_cast<__int128>(1) << (limit_bits - 1);
    const auto wide = static_cast<__int128>(value) << std::min(-shift, 63);
    return static_cast<int64_t>(std::clamp<__int128>(wide, -limit, limit - 1));
  }
  if (shift > 62) return 0;
  const int64_t half = int64_t{1} << (shift - 1);
  if (rounding == Rounding::HalfUp) return (value + half) >> shift;
  const int64_t quotient = value >> shift;
  const int64_t remainder = value - (quotient << shift);
  return quotient + (remainder > half || (remainder == half && (quotient & 1)));
}

/// Newton's square root of chip library 3.3.9: stops at an absolute change of 1e-5, so small roots stay inexact.
inline float newton_sqrt(float x) {
  if (x == 0) return 0;
  float root = x, last;
  do {
    last = root;
    root = static_cast<float>(static_cast<double>(last + x / last) * 0.5);
  } while (std::abs(root - last) > 0.00001f);
  return root;
}

}  // namespace espq::chip
