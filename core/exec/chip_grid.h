#pragma once
#include "core/graph/graph.h"
#include "core/quant/grid.h"

namespace espq {

/// Grid of a chip graph's variable; bits = 0 when it is not a quantized tensor (wide integers are one only as a bias).
Grid variable_grid(const Variable* variable, bool bias = false);
/// Grid of operand `slot` as the chip sees it, from the variable's storage; bits = 0 when it is not a quantized tensor.
Grid input_grid(const Operation& operation, size_t slot);
Grid output_grid(const Operation& operation, size_t slot);

}  // namespace espq
