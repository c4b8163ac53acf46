#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/ops/operator.h"

namespace espq {

/// How one constant operand lies in the file.
struct WeightFormat {
  WeightPacking packing = WeightPacking::None;
  int64_t groups = 1;
  int block = 0;  ///< output channels per block: 16 (int8 operators), 8 (int16); 0 = chips without vector unit
};

/// Format of operand `slot` of an operator that `kernels` run; WeightPacking::None for what is stored in plain order.
/// `vector_unit`: whether the file is for a chip with one.
WeightFormat weight_format(const OperatorDefinition* definition, size_t slot, Width kernels, int64_t groups,
                           bool vector_unit);

/// Dims that the file declares for a constant of plain shape `shape`.
std::vector<int64_t> declared_dims(const WeightFormat& format, const Shape& shape);
/// Inverse of declared_dims. Throws UserError beginning with `where` for dims that no packed operand has.
Shape plain_shape(const WeightFormat& format, const std::vector<int64_t>& dims, const std::string& where);

/// Elements in the chip's order, one-dimensional, of a constant in plain order ([N, C, H, W], [N, K], [.., K, N]).
/// Chip library 3.3.9: full blocks of A output channels as [N/A][H][W][C][A]; the channels that are left over as
/// [n][H][W][C], or as [C][H][W][n] in filters with groups. Without vector unit [N][H][W][C], with groups [H][W][C][N].
at::Tensor pack_weight(const WeightFormat& format, const at::Tensor& value);
/// Inverse of pack_weight.
at::Tensor unpack_weight(const WeightFormat& format, const at::Tensor& memory, const Shape& shape);

/// Name of the order as the incumbent writes it ("(N/16)HWC16_UNALIGNED", "NHWC", ...); "UNK" for plain order.
std::string layout_name(const WeightFormat& format, const Shape& shape);

}  // namespace espq
