#include "core/ops/families.h"
#include "core/ops/operator.h"

namespace espq {

void register_builtin_operators(Registry& registry) {
  register_conv_operators(registry);
  register_gemm_operators(registry);
  register_pooling_operators(registry);
  register_reduction_operators(registry);
  register_activation_operators(registry);
  register_binary_operators(registry);
  register_lut_operator(registry);
  register_indexing_operators(registry);
  register_movement_operators(registry);
  register_normalization_operators(registry);
  register_quantize_linear_operators(registry);
  register_recurrent_operators(registry);
  register_resize_operators(registry);
  register_shape_operators(registry);
  register_softmax_operators(registry);
  register_unary_operators(registry);
}

const Registry& operators() {
  static const Registry registry = [] {
    Registry table;
    register_builtin_operators(table);
    return table;
  }();
  return registry;
}

}  // namespace espq
