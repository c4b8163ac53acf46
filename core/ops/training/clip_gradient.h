#pragma once
#include <ATen/core/Tensor.h>

#include "core/quant/grid.h"

namespace espq {

/// at::clamp for training: the same values and gradients (those of values within the bounds, bounds included, pass) in
/// one pass over memory in each direction, where LibTorch needs four on the way back. Undefined when the input does not
/// fit (other dtypes and devices) or needs no gradient.
at::Tensor clip_with_gradient(const at::Tensor& input, const ClipBounds& bounds);

}  // namespace espq
