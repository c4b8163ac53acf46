#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "core/ops/kernels/integer_kernels.h"
#include "core/ops/operator.h"

namespace espq {

/// What follows the accumulator in Conv, Gemm and MatMul (chip library 3.3.9): bias, one rounding right shift by
/// e_out - e_in - e_weight (per tensor, or per output channel), fused Relu, saturation to the output type.
///
/// Exactness. Codes are integers v = sum + bias in a floating type with p significant bits (24 or 53). Multiplication
/// by 2^-s is exact, so rounding half to even is exact for |v| <= 2^p. Rounding half up adds 0.5 first: that sum is
/// exact when |v| + 2^(s-1) <= 2^p, and for larger s with |v| < 2^(p-1) it cannot reach an integer that the exact value
/// does not reach; |v| < 2^(p-1) is therefore enough. The constructor picks float32 when the bound allows it, else
/// float64.
class Requantizer {
 public:
  /// `bias`: codes of [channels] or undefined. `largest_sum`: a bound of |sum| without bias, over all channels.
  /// Throws UserError naming the operation when grids are missing or the fused activation is unknown.
  Requantizer(const BoardContext& context, int64_t channels, const at::Tensor& bias, double largest_sum);

  /// Float32 codes of the output grid in the memory order of `sums`, whose output channels lie along `channel_axis`
  /// (the tensor is overwritten where that saves memory).
  at::Tensor operator()(at::Tensor sums, int64_t channel_axis) const;

  /// The same for integer sums as they are made, some rows of them at a time, for codes that lie `out_pitch` apart.
  void operator()(const IntegerSums& sums, float* out, int64_t out_pitch) const;

  /// The same for one accumulator that already contains the bias.
  float code(int64_t accumulator, int64_t channel) const;

 private:
  std::vector<int> shifts_;             ///< one per channel
  std::vector<double> bias_, factors_;  ///< one of each where nothing depends on the channel
  std::vector<double> bias_by_channel_, factors_by_channel_;
  std::vector<float> bias32_, factors32_;
  bool float32_ = false;
  Rounding rounding_;
  float low_, high_;
};

}  // namespace espq
