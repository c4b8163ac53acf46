#pragma once

namespace espq {

class Registry;

// One function per operator family, each in the file of its name; register_builtin_operators calls them all.
void register_conv_operators(Registry& registry);
void register_gemm_operators(Registry& registry);
void register_pooling_operators(Registry& registry);
void register_reduction_operators(Registry& registry);

}  // namespace espq
