#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "core/ops/operator.h"

namespace espq {

// ScalarFunction: any function of single elements of one tensor that can be written with the operators below, as one
// operation, because a look-up table can hold it. Attribute `steps` is its program: "Greater x 0.3", "Where #0 x #1".
// The operands of a step are x, a number, or #i, the result of step i; the last step is the result.

/// How a step may be called, and with how many operands; 0 when there is no such step.
size_t scalar_step_operands(std::string_view name);

/// "0.3" so that it reads back as the same float32.
std::string scalar_step_number(double value);

std::vector<OperatorDefinition> scalar_function_operators();

}  // namespace espq
