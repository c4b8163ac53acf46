#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "core/quant/grid.h"
#include "core/quant/rounding.h"
#include "core/quant/scheme.h"

namespace espq {

/// value -> clamp(round(value / 2^e), qmin, qmax) * 2^e. One exponent, or one per index along channel_axis. Without
/// gradients: training uses quantize_gradient.h.
at::Tensor fake_quantize(const at::Tensor& value, const std::vector<int>& exponents, int channel_axis, int bits,
                         Rounding rounding);

/// The same for a tensor that the caller gives away: its memory is used again where nobody else can see it.
at::Tensor fake_quantize_result(at::Tensor value, const std::vector<int>& exponents, int channel_axis, int bits,
                                Rounding rounding);

/// The same of clamp(value, bounds), with one exponent, in one pass over memory.
at::Tensor fake_quantize_clamped(at::Tensor value, const ClipBounds& bounds, const Grid& grid, Rounding rounding);

/// clamp(value, bounds) of a float32 tensor that the caller gives away.
at::Tensor clamp_result(at::Tensor value, const ClipBounds& bounds);

/// The integers of the grid as a tensor of the same floating dtype ("codes").
at::Tensor quantize_to_codes(const at::Tensor& value, const std::vector<int>& exponents, int channel_axis, int bits,
                             Rounding rounding);

/// Integers cast to the storage dtype: int8 (<= 8 bits), int16 (<= 16), int32 (<= 32), int64.
/// Saturates in integers.
at::Tensor quantize_to_integers(const at::Tensor& value, const std::vector<int>& exponents, int channel_axis, int bits,
                                Rounding rounding);

/// 2^e per channel (or one), in the dtype of `like` and of a shape that broadcasts along its channel_axis.
at::Tensor scale_tensor(const std::vector<int>& exponents, int channel_axis, const at::Tensor& like);

/// codes * 2^e in float32 (float64 when the codes are float64).
at::Tensor dequantize(const at::Tensor& codes, const std::vector<int>& exponents, int channel_axis);

}  // namespace espq
