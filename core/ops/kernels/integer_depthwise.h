#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "core/ops/kernels/integer_convolution.h"
#include "core/ops/kernels/integer_kernels.h"
#include "core/ops/window.h"

namespace espq {

/// IntegerConvolution for filters of one channel each (groups = channels = filters), 1-D or 2-D. Two taps one above the
/// other (side by side in 1-D) make a pair of products.
class IntegerDepthwise {
 public:
  /// Whether this processor and these filters fit: codes [C, 1, kernel...] of at most 16 bits.
  static bool supports(const Window& window, int64_t groups, const at::Tensor& filters, double input_limit);

  IntegerDepthwise(const Window& window, const at::Tensor& filters, double input_limit,
                   const IntegerKernels* kernels = nullptr);

  /// As IntegerConvolution.
  at::Tensor run(const at::Tensor& input, const IntegerConvolution::Finish& finish) const;
  at::Tensor sums(const at::Tensor& input) const;

 private:
  struct Axis {
    int64_t kernel = 1, stride = 1, dilation = 1, begin = 0, end = 0;
    int64_t padded(int64_t input) const { return input + begin + end; }
    int64_t output(int64_t input) const { return (padded(input) - dilation * (kernel - 1) - 1) / stride + 1; }
  };
  struct Sizes {
    int64_t samples, input_height, input_width, height, width;
    int64_t rows, row_step;  ///< rows of pairs per sample, and how many rows of the padded input lie between them
    int64_t padded_width;
  };

  Sizes sizes(const at::Tensor& input) const;
  at::Tensor pack(const at::Tensor& input, const Sizes& sizes) const;
  at::Tensor result(const Sizes& sizes, at::ScalarType type) const;
  template <typename Store>
  void for_each_tile(const at::Tensor& packed, const Sizes& sizes, const Store& store) const;

  const IntegerKernels* kernels_;
  int64_t channels_, padded_channels_;
  size_t rank_;
  Axis y_, x_;
  bool pairs_along_x_;
  int halves_;                    ///< 1: whole weights
  std::vector<int16_t> weights_;  ///< [vectors of channels][terms][halves][lanes][2]
};

}  // namespace espq
