#pragma once
#include "core/ops/operator.h"

namespace espq {

/// What a training step knows about a Conv and what follows it.
struct ConvGradientOptions {
  /// Rounding of the parameters in the same node; 0 bits: they come as they are used.
  GridRounding round_filters = {}, round_bias = {};
  /// Grids of the input (0 bits: none, or not known) and of the filters, which have one exponent or one per filter.
  Grid input = {}, filters = {};
  /// What becomes of the result in the same pass: Relu, and rounding (0 bits: neither) to a grid with one exponent.
  bool relu = false;
  GridRounding output = {};
};

/// convolve() and what follows it as one node of the gradient graph, with kernels for small networks. The value is that
/// of convolve() bit by bit: other kernels than LibTorch's run forward only where every sum of the grids' integers is a
/// float32 number whatever its order. `bias` may be undefined.
at::Tensor convolve_with_gradient(const Operation& operation, const at::Tensor& input, const at::Tensor& filters,
                                  const at::Tensor& bias, const ConvGradientOptions& options);

}  // namespace espq
