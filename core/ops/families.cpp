#include "core/ops/families.h"

#include <iterator>

#include "core/ops/scalar_function.h"

namespace espq {

const Registry& operators() {
  static const Registry registry = [] {
    Operators all;
    for (auto* family : {conv_operators, gemm_operators, pooling_operators, reduction_operators, activation_operators,
                         binary_operators, lookup_table_operators, indexing_operators, movement_operators,
                         normalization_operators, quantize_linear_operators, recurrent_operators, resize_operators,
                         scalar_function_operators, shape_operators, softmax_operators, unary_operators})
      for (OperatorDefinition& definition : family()) all.push_back(std::move(definition));
    return Registry(std::move(all));
  }();
  return registry;
}

}  // namespace espq
