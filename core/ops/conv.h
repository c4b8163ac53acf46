#pragma once
#include "core/ops/operator.h"

namespace espq {

/// Float convolution of [N, C, spatial...] with filters [M, C/groups, kernel...]; `bias` may be undefined.
at::Tensor convolve(const Operation& operation, const at::Tensor& input, const at::Tensor& filters,
                    const at::Tensor& bias);

/// Exact kernel of Conv.
BoardKernel conv_board(const BoardContext& context);

}  // namespace espq
