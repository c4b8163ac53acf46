#pragma once
#include <cstdint>

#include "core/quant/grid.h"
#include "core/quant/target.h"

namespace espq {

/// From 8 to 16 bits the vector kernel of chip library 3.3.9 writes 16 codes at a time and leaves the second half of
/// the last block as it was where only half of it is there. Tensors of up to 50 codes and those that keep their
/// exponent are converted one by one.
bool loses_half_block(const Target& target, int64_t elements, const Grid& from, const Grid& to);
/// To a much finer grid the vector kernels multiply by a power of two that their lanes do not hold: values that should
/// end at the limits of the grid change their sign.
bool wraps_multiplier(const Target& target, const Grid& from, const Grid& to);

}  // namespace espq
