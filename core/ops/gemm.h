#pragma once
#include "core/ops/operator.h"

namespace espq {

/// True for a MatMul of a chip graph whose operand 1 is computed and arrives packed (chip library 3.3.9; newer ones
/// read `input1_layout = native_kn` as it is).
bool is_packed(const Operation& operation);

/// Packed operand 1 -> [..., K, N]. Per matrix the packed data are blocks [N / A][K][A] of A output columns
/// (Target::block), then the remaining columns as rows [n][K]; chips without vector unit have [N][K] alone. `packed`
/// carries its data in that order under the declared shape [..., K, N].
at::Tensor unpack_columns(const Operation& operation, const Target& target, const at::Tensor& packed);

/// Exact kernels.
BoardKernel gemm_board(const BoardContext& context);
BoardKernel matmul_board(const BoardContext& context);

}  // namespace espq
