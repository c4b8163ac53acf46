#pragma once
#include <functional>

#include "core/ops/operator.h"

namespace espq {

/// Kernel of a one-input operator on a quantized grid: `function` gives the output code of every input code and is
/// evaluated once per code when the plan is compiled (the grids have at most 16 bits).
BoardKernel code_map(const BoardContext& context, const std::function<float(float code)>& function);

/// Kernel of a one-input operator that the chip library computes as `function(q * 2^e_in)` in float32, then rounds by
/// multiplying with 2^-e_out. Runs `forward` when the operands are not quantized.
BoardKernel value_map(const BoardContext& context, const std::function<float(float value)>& function);

}  // namespace espq
