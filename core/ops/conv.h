#pragma once
#include "core/ops/operator.h"
#include "core/ops/window.h"

namespace espq {

/// Float convolution of [N, C, spatial...] with filters [M, C/groups, kernel...]; `bias` may be undefined. `window`:
/// what read_window() says of the operation.
at::Tensor convolve(const Window& window, int64_t groups, const at::Tensor& input, const at::Tensor& filters,
                    const at::Tensor& bias);
/// The same after reading and checking the operation's attributes.
at::Tensor convolve(const Operation& operation, const at::Tensor& input, const at::Tensor& filters,
                    const at::Tensor& bias);

/// Exact kernel of Conv.
BoardKernel conv_board(const BoardContext& context);

}  // namespace espq
