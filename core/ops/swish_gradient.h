#pragma once
#include <ATen/core/Tensor.h>

namespace espq {

/// x * sigmoid(x) as one node of the gradient graph: LibTorch's operators would leave six passes over memory for the
/// way back. The value is theirs bit by bit. Undefined where LibTorch has to do it: no dense float32 of this processor.
at::Tensor swish_with_gradient(const at::Tensor& input);

}  // namespace espq
