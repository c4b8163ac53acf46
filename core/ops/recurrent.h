#pragma once
#include <string_view>

#include "core/ops/operator.h"

namespace espq {

/// 1, or 2 for bidirectional cells. Throws UserError on an unknown direction.
int64_t recurrent_directions(const Operation& operation);

/// The operator that a plain RNN applies to its sums in that direction: "Tanh", "Relu" or "Sigmoid". Throws UserError
/// on others.
std::string_view plain_activation(const Operation& operation, int64_t direction);

/// Exact arithmetic of the chip's cells: integer gate sums on a 16-bit grid, activations from tables of floats.
BoardKernel gru_board(const BoardContext& context);
BoardKernel lstm_board(const BoardContext& context);

}  // namespace espq
