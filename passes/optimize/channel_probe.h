#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

#include "core/ops/operator.h"

// Seeing what an operation does to channels by running it on numbers that are made for that.
namespace espq {

/// A vector as a tensor of `rank` dimensions along one axis.
at::Tensor along(const at::Tensor& vector, int64_t axis, int64_t rank);

/// Numbers of both signs and all sizes up to 16, no two of them alike in small tensors.
at::Tensor probe_values(const Shape& shape);

/// Results with `value` for operand `slot`; the others are constants.
Tensors run_on(const Operation& operation, size_t slot, const at::Tensor& value);

}  // namespace espq
