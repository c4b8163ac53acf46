#pragma once
#include <vector>

#include "core/ops/operator.h"

namespace espq {

using Operators = std::vector<OperatorDefinition>;

// One function per operator family, each in the file of its name; operators() joins them.
Operators activation_operators();
Operators binary_operators();
Operators conv_operators();
Operators gemm_operators();
Operators indexing_operators();
Operators lookup_table_operators();
Operators movement_operators();
Operators normalization_operators();
Operators pooling_operators();
Operators quantize_linear_operators();
Operators recurrent_operators();
Operators reduction_operators();
Operators resize_operators();
Operators shape_operators();
Operators softmax_operators();
Operators unary_operators();

}  // namespace espq
