#pragma once
#include <ATen/core/Tensor.h>

#include <optional>

#include "core/quant/grid_rows.h"

namespace espq {

/// x * sigmoid(x) as one node of the gradient graph: LibTorch's operators would leave six passes over memory for the
/// way back. The value is theirs bit by bit. With `rounding` the result is rounded, and the gradient masked where it
/// left the grid. Undefined where LibTorch has to do it: nobody wants a gradient, or no
/// dense float32 of this processor.
at::Tensor swish_with_gradient(const at::Tensor& input, const std::optional<RowRounding>& rounding = std::nullopt);

}  // namespace espq
