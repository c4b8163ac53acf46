#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "core/quant/target.h"

// How the chips add up products, and when a fast floating-point sum gives the same integer (chip library 3.3.9).
namespace espq {

/// Accumulators of one multiply-accumulate operator. The first `vector_channels` output channels run in vector lanes of
/// `lane_bits` bits; a lane starts with the bias (cut to its low bits) and then takes the products in the order kernel
/// row, kernel column, input channel. The remaining channels use a wider scalar accumulator that no sum of this kind
/// leaves.
struct AccumulatorRule {
  int64_t vector_channels = 0;
  int lane_bits = 32;
  bool wraps = false;  ///< false: a lane saturates on every step

  double limit() const { return static_cast<double>(int64_t{1} << (lane_bits - 1)); }
};

/// S3: 20 bits at int8, 40 at int16. P4: 32 and 64. C: int32 that wraps, 64. Vector lanes take full blocks of output
/// channels and every depthwise channel; on C all channels are alike.
AccumulatorRule accumulator_rule(const Target& target, int bits, int64_t output_channels, bool depthwise);

/// Codes of the bias as the lanes load them: the low lane_bits bits, sign extended (vector channels only).
at::Tensor lane_bias(const AccumulatorRule& rule, const at::Tensor& bias);

/// Sums over everything but axis 0 of |filters|, float64 [output channels].
at::Tensor filter_magnitude(const at::Tensor& filters);

/// Output channels whose partial sums may leave their lanes for some input with |code| <= input_limit. Filters
/// [output channels, ...] and bias are codes. Whether they do on real data shows the difference between the operator's
/// exact kernel and the same with a Target whose lanes are wider.
std::vector<int64_t> channels_at_risk(const AccumulatorRule& rule, const at::Tensor& filters, const at::Tensor& bias,
                                      double input_limit);

/// Ends of pieces of the reduction axis whose partial sums are all exact in float32 (|sum| <= 2^24). `magnitudes`:
/// [output channels, reduction] sums of |weight|. Empty when single columns are too large: only float64 is exact then.
std::vector<int64_t> exact_pieces(const at::Tensor& magnitudes, double input_limit);

/// The lanes of some output channels, one product after the other.
class SequentialLanes {
 public:
  /// `weights`: codes [channels, taps] in the order in which the chip adds; `bias`: codes [channels].
  SequentialLanes(const AccumulatorRule& rule, const at::Tensor& weights, const at::Tensor& bias);
  int64_t taps() const { return taps_; }
  int64_t channels() const { return channels_; }
  /// Accumulators of all channels for one patch of `taps` input codes.
  void run(const float* patch, int64_t* sums) const;

 private:
  int64_t channels_, taps_;
  int lane_bits_;
  bool wraps_;
  std::vector<int32_t> weights_;  ///< [taps, channels]
  std::vector<int64_t> bias_;
};

/// Smallest and largest input code.
struct CodeRange {
  double low = 0, high = 0;
};
CodeRange code_range(const at::Tensor& input);

/// Finds output elements whose partial sums may leave the lanes, cheaply: first from the range of the input, then from
/// the largest energy of a patch, then element by element from the sum of absolute products.
class OverflowFilter {
 public:
  /// `filters`: codes [channels, ...] of the channels to watch.
  OverflowFilter(const AccumulatorRule& rule, const at::Tensor& filters, const at::Tensor& bias);
  /// False when no input inside the range can overflow.
  bool possible(const CodeRange& range) const;
  /// False when no patch whose sum of squares is at most `energy` can: |sum x w| <= |x| |w|, for every part of a sum.
  bool possible(const CodeRange& range, double energy) const;
  /// Elements to examine. `absolute`: sums of |x| * |w| (float, may be inexact), `exact`: sums of x * w without bias;
  /// both with channels along `channel_axis`.
  at::Tensor suspects(const at::Tensor& absolute, const at::Tensor& exact, int64_t channel_axis) const;

 private:
  bool outside(const at::Tensor& up, const at::Tensor& down) const;

  double limit_, slack_;
  at::Tensor bias_;                                  ///< float64 [channels], as all below
  at::Tensor positive_, negative_;                   ///< sums of positive weights, of |negative| ones
  at::Tensor positive_norm_, negative_norm_, norm_;  ///< their Euclidean norms, and that of all weights
};

}  // namespace espq
