#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "core/quant/grid.h"

// Rounding float32 tensors in one pass over memory: what fake_quantize() and training share.
namespace espq {

/// A grid in float32. Multiplying by a power of two is exact, in either direction.
struct GridFloats {
  float inverse, scale, low, high;
};
GridFloats grid_floats(int exponent, int bits);

/// out[i] = clamp(round(in[i] / 2^e)) * scale, of max(in[i], 0) with `relu`. `inside`, unless nullptr, gets 1 where
/// gradients pass: where the value is inside the range (and positive, with `relu`). `out` may be `in`.
void round_row(const float* in, float* out, uint8_t* inside, int64_t count, const GridFloats& grid, Rounding rounding,
               bool relu = false);

/// out[i] = inside[i] ? gradient[i] : 0; `out` may be `gradient`.
void mask_row(const float* gradient, const uint8_t* inside, float* out, int64_t count);

/// The same for a tensor; `inside` has one byte, or one bool of LibTorch's, per element of `gradient`.
at::Tensor masked_gradient(const at::Tensor& gradient, const at::Tensor& inside);

/// With v = in / 2^e, r = round(v) and q = clamp(r): out = gradient where r == q, else 0; products = gradient times
/// (r - v where r == q, else q), what reaches the scale. No two of the arrays overlap.
void scale_products(const float* in, const float* gradient, float* out, float* products, int64_t count,
                    const GridFloats& grid, Rounding rounding);

/// How a tensor falls into rows of one grid: [outer, channels, length] in memory.
struct GridRows {
  int64_t outer = 1, channels = 1, length = 0;

  GridRows(const at::Tensor& value, int channel_axis, size_t exponents);
  /// function(exponent index, first element, number of elements): pieces that can run side by side.
  void for_each(const std::function<void(int64_t channel, int64_t begin, int64_t count)>& function) const;
};
/// Elements that are worth a thread.
constexpr int64_t kRowGrain = 1 << 14;

/// Whether round_rows() can do it: a float32 tensor of this processor, and powers of two that float32 holds.
bool has_grid_rows(const at::Tensor& value, const std::vector<int>& exponents);
/// The tensor (or a copy) as the rows can be walked: per tensor in any dense order, per channel in plain order.
at::Tensor walkable(const at::Tensor& value, size_t exponents);

struct RowOptions {
  bool relu = false;
  bool codes = false;      ///< leave the integers of the grid instead of multiplying them by 2^e
  bool overwrite = false;  ///< the result may take the place of the value
  ClipBounds bounds = {};  ///< of values, with one exponent: rounding is monotonic, so that codes may be clamped
};
/// round_row() for a whole tensor, with one exponent or one per index along channel_axis; `inside` as there, as bytes
/// in the result's memory order.
at::Tensor round_rows(const at::Tensor& value, const std::vector<int>& exponents, int channel_axis, int bits,
                      Rounding rounding, RowOptions options = {}, at::Tensor* inside = nullptr);

struct RowRounding {
  GridFloats grid;
  Rounding rounding;
  bool relu = false;
};
/// Of a rounding with one exponent.
inline RowRounding row_rounding(const GridRounding& rounding, bool relu) {
  return {grid_floats(rounding.grid.exponent(), rounding.grid.bits), rounding.rounding, relu};
}
/// a + b, or a * b, and its rounding in one pass, for contiguous tensors of one shape that has_grid_rows(); `inside`
/// gets the bytes that masked_gradient() wants.
at::Tensor round_sum(const at::Tensor& a, const at::Tensor& b, const RowRounding& rounding, at::Tensor& inside);
at::Tensor round_product(const at::Tensor& a, const at::Tensor& b, const RowRounding& rounding, at::Tensor& inside);

}  // namespace espq
