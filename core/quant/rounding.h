#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace espq {

/// Ties toward +infinity (floor(x + 0.5)) or to the even neighbour.
enum class Rounding { HalfUp, HalfEven };

/// Rounds every element to an integer in the tensor's own floating type; differentiable nowhere.
at::Tensor round_tensor(const at::Tensor& value, Rounding rounding);

/// Rounds one value.
double round_scalar(double value, Rounding rounding);

/// value / 2^shift with the rounding; shift <= 0 is an exact left shift (the caller saturates).
int64_t rounding_shift(int64_t value, int shift, Rounding rounding);

}  // namespace espq
