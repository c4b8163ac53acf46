#pragma once

namespace espq {

class Registry;

// One function per operator family, each in the file of its name; register_builtin_operators calls them all.
void register_conv_operators(Registry& registry);
void register_gemm_operators(Registry& registry);
void register_pooling_operators(Registry& registry);
void register_reduction_operators(Registry& registry);
void register_activation_operators(Registry& registry);
void register_binary_operators(Registry& registry);
void register_lut_operator(Registry& registry);
void register_indexing_operators(Registry& registry);
void register_movement_operators(Registry& registry);
void register_normalization_operators(Registry& registry);
void register_quantize_linear_operators(Registry& registry);
void register_recurrent_operators(Registry& registry);
void register_resize_operators(Registry& registry);
void register_shape_operators(Registry& registry);
void register_softmax_operators(Registry& registry);
void register_unary_operators(Registry& registry);

}  // namespace espq
