#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/graph/attribute.h"

namespace espq::lowering {

/// exported_dim[i] = original_dim[permutation[i]].
using Permutation = std::vector<int>;

Permutation identity(size_t rank);
bool is_identity(const Permutation& permutation);
/// First `outer`, then `inner`: result[i] = outer[inner[i]].
Permutation compose(const Permutation& outer, const Permutation& inner);
Permutation inverse(const Permutation& permutation);
/// Position of an original axis in the exported order.
int64_t position_of(int64_t axis, const Permutation& permutation);
Shape permuted(const Shape& shape, const Permutation& permutation);
/// [0, 2, 3, 1] or [0, 2, 1]; empty for ranks without channels-last kernels.
Permutation channels_last(size_t rank);

/// As the attribute of a Transpose.
std::vector<int64_t> to_attribute(const Permutation& permutation);

}  // namespace espq::lowering
