#pragma once
#include "core/ops/operator.h"

namespace espq {

/// Definition of the function that a table replaced (ChipFacts::function), which is what the operation's attributes
/// belong to; of the operation's own type when it is no LUT or does not tell. Throws UserError on an unknown function.
const OperatorDefinition& tabulated_definition(const Operation& operation);

/// Number of entries: 256 for 8 bit; 65536 / step + 1 for 16 bit, or 65536 when step is 1.
int64_t table_size(int bits, int step);

/// Lookup table of a one-input operator: entry j is clamp(round(f(q_j * 2^e_in) / 2^e_out)) in float32, with f the
/// float `forward` of `definition` under the attributes of `operation` (they differ from the operation's own type for
/// LUT). q_j = j - 128 at 8 bit (step is ignored), j * step - 32768 at 16 bit. `operands`: operands of the operation
/// from slot 0 on, further ones as real values (Clip bounds, a PRelu slope); slot 0 is ignored. Result: int8 or int16,
/// 1-D.
at::Tensor build_table(const OperatorDefinition& definition, const Operation& operation, Tensors operands,
                       const Grid& input, const Grid& output, int step, Rounding rounding);

/// Reads an int8 (256 entries) or int16 table as the chip does. 16 bit: the step follows from the number of entries;
/// nearest neighbour, ties by the target's rounding, no interpolation. Throws UserError on a size that is no table.
BoardKernel table_kernel(const at::Tensor& table, int bits, Rounding rounding);

/// Board kernel of LUT and Gelu, which read a table at both widths: the stored one, else the one that the exporter
/// would write (ChipFacts::table_step, 1 when absent).
BoardKernel table_board(const BoardContext& context);

}  // namespace espq
