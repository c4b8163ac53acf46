#pragma once
#include "core/ops/linear.h"

namespace espq {

/// The layer has a constant bias per channel that nobody else reads and that settle() puts on the grid of its sums: one
/// that a pass may move.
inline bool has_own_bias(const LinearOperation& linear) {
  const Variable* bias = linear.bias_variable();
  return bias && bias->is_parameter() && bias->uses().size() == 1 && linear.operation().quantized() &&
         linear.operation().input_quant()[*linear.bias_slot()].quantizes() && linear.bias().has_value();
}

}  // namespace espq
