#pragma once
#include "core/ops/operator.h"

namespace espq {

/// The generic C kernel, which gives positive codes on as they are, runs on chips without vector units, and at 16 bit
/// everywhere.
bool runs_plain_prelu(const Target& target, int bits);

/// Exact kernel of PRelu.
BoardKernel prelu_board(const BoardContext& context);

}  // namespace espq
