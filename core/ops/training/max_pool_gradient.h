#pragma once
#include <ATen/core/Tensor.h>

#include "core/ops/window.h"

namespace espq {

/// at::max_pool2d for training, several times faster: values, and which of equal ones gets the gradient, are the same.
/// `window`: of [N, C, H, W], its `begin` is the padding. Undefined when the operands do not fit (other dtypes and
/// devices, more than 254 elements per window).
at::Tensor max_pool_with_gradient(const at::Tensor& input, const Window& window);

}  // namespace espq
