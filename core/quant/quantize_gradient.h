#pragma once
#include <ATen/core/Tensor.h>

#include "core/quant/grid.h"

namespace espq {

/// fake_quantize() for training: the same values, with gradients, in one pass over memory in each direction.
/// With s = 2^e, v = value / s, r = round(v) and q = clamp(r, qmin, qmax), the surrogate is
///   d result / d value = 1, or where `rounding` is masked 1 where r lies inside the range (r == q) and 0 elsewhere.
/// When `log2_scale` is defined (one element per exponent, whose rounded value is that exponent), it learns, too, by
/// the rule of TQT (Jain et al. 2019, "Trained Quantization Thresholds"); the mask then always applies:
///   d result / d log2_scale = ln 2 * s * (r - v) inside the range, ln 2 * s * q outside, summed over its elements.
/// `relu`: of max(value, 0), whose gradient is 0 where the value is not positive.
at::Tensor fake_quantize_with_gradient(const at::Tensor& value, const GridRounding& rounding,
                                       const at::Tensor& log2_scale = {}, bool relu = false);

/// fake_quantize_with_gradient(a + b), in one pass where the operands have one shape and there is one exponent.
at::Tensor add_and_quantize_with_gradient(const at::Tensor& a, const at::Tensor& b, const GridRounding& rounding,
                                          bool relu);

}  // namespace espq
