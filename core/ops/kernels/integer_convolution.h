#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "core/ops/kernels/integer_kernels.h"
#include "core/ops/window.h"

namespace espq {

/// Sums of products of codes that are exact in 32-bit integers: 1-D and 2-D convolutions, and products with a matrix
/// (a window of one position). Weights wider than 8 bits are cut into two halves, w = 256 * high + low, whose sums fit
/// where those of w do not; where even they do not, a sum is made of pieces.
///
/// Twice as fast as float32 at 8 bits, which floating-point numbers cannot be; at 16 bits as fast as float32, where
/// only float64 would be exact.
class IntegerConvolution {
 public:
  /// Whether this processor and these filters fit: codes [M, C/groups, kernel...] of at most 16 bits.
  static bool supports(const Window& window, int64_t groups, const at::Tensor& filters);

  /// `input_limit`: largest |code| of an input. Without `kernels` the fastest ones.
  IntegerConvolution(const Window& window, int64_t groups, const at::Tensor& filters, double input_limit,
                     const IntegerKernels* kernels = nullptr);

  /// Makes results of sums, for rows of all channels that lie `out_pitch` apart.
  using Finish = std::function<void(const IntegerSums& sums, float* out, int64_t out_pitch)>;

  /// `input`: codes [N, C, spatial...], best with channels last in memory. Returns [N, M, spatial...] with channels
  /// last in memory.
  at::Tensor run(const at::Tensor& input, const Finish& finish) const;
  /// The sums themselves, float64.
  at::Tensor sums(const at::Tensor& input) const;

 private:
  /// Numbers that lie side by side in the padded input, whichever the width of that is.
  struct Stretch {
    int64_t row, column, first, pairs;  ///< of the input pixel; the first number of it; pairs of numbers
  };
  /// A part of the terms whose sums fit 32 bits.
  using Piece = std::vector<Stretch>;
  /// Columns that one call of a tile computes.
  struct Block {
    int64_t group, column, columns;  ///< the first of the group's output channels, and how many
    int vectors;
    std::vector<int64_t> weights = {};  ///< where they start, by piece
  };
  /// Sizes of one run; what has one spatial axis has a height of 1.
  struct Sizes {
    int64_t samples, input_height, input_width, padded_height, padded_width, height, width;
  };

  int64_t padding(const std::vector<int64_t>& sides, size_t axis) const;
  /// Largest sum of |weight|, or of a half of it, that one filter makes.
  double largest_sum(const std::vector<int32_t>& weights) const;
  void make_pieces(const std::vector<int32_t>& weights, double input_limit);
  void make_blocks(const std::vector<int32_t>& weights);
  /// Where a number of a stretch has its weight in [taps, channels of a group]; -1: it is multiplied by nothing.
  int64_t place_of_weight(const Stretch& stretch, int64_t number) const;
  Sizes sizes(const at::Tensor& input) const;
  at::Tensor pack(const at::Tensor& input, const Sizes& sizes) const;
  at::Tensor result(const Sizes& sizes, at::ScalarType type) const;
  template <typename Store>
  void for_each_tile(const at::Tensor& packed, const Sizes& sizes, const Store& store) const;

  Window window_;
  int64_t groups_, filters_, channels_;  ///< both of one group
  int64_t kernel_rows_, kernel_columns_;
  const IntegerKernels* kernels_;
  bool halves_ = false;
  std::vector<Piece> pieces_;
  std::vector<Block> blocks_;
  std::vector<int16_t> weights_;
};

}  // namespace espq
