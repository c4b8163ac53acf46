#include "core/quant/fake_quantize.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>

#include "core/support/error.h"

namespace espq {
namespace {

/// 2^e per channel (or one), shaped to broadcast along channel_axis.
at::Tensor scale_tensor(const std::vector<int>& exponents, int channel_axis, const at::Tensor& like) {
  std::vector<double> scales;
  for (int exponent : exponents) scales.push_back(std::ldexp(1.0, exponent));
  at::Tensor scale = at::tensor(scales, at::kDouble).to(like.scalar_type());
  if (exponents.size() == 1 && channel_axis < 0) return scale.reshape({});
  std::vector<int64_t> shape(like.dim(), 1);
  internal_check(channel_axis >= 0 && channel_axis < like.dim(), "channel axis outside the tensor's rank");
  internal_check(exponents.size() == 1 || like.size(channel_axis) == static_cast<int64_t>(exponents.size()),
                 "number of exponents differs from the number of channels");
  shape[channel_axis] = static_cast<int64_t>(exponents.size());
  return scale.reshape(shape).to(like.device());
}

/// The whole grid operation in one pass over memory. The clones let the compiler use vector rounding where the machine
/// has it; no multiply-add is fused in either, so both give the same numbers.
__attribute__((target_clones("avx2", "default"))) void quantize_half_even(const float* in, float* out, int64_t count,
                                                                          float inverse, float scale, float low,
                                                                          float high) {
  for (int64_t i = 0; i < count; ++i) {
    float q = std::nearbyintf(in[i] * inverse);
    q = q < low ? low : q;
    out[i] = (q > high ? high : q) * scale;
  }
}

__attribute__((target_clones("avx2", "default"))) void quantize_half_up(const float* in, float* out, int64_t count,
                                                                        float inverse, float scale, float low,
                                                                        float high) {
  for (int64_t i = 0; i < count; ++i) {
    const float shifted = in[i] * inverse + 0.5f;
    float q = std::floor(shifted);
    q = q < low ? low : q;
    out[i] = (q > high ? high : q) * scale;
  }
}

/// `result`: dense in the memory order of `value`, or `value` itself.
void quantize_dense(const at::Tensor& value, at::Tensor& result, int exponent, int bits, Rounding rounding,
                    float output_scale) {
  const float inverse = std::ldexp(1.0f, -exponent);
  const auto low = static_cast<float>(quant_min(bits)), high = static_cast<float>(quant_max(bits));
  const float* in = value.const_data_ptr<float>();
  float* out = result.mutable_data_ptr<float>();
  at::parallel_for(0, value.numel(), 16384, [&](int64_t begin, int64_t end) {
    if (rounding == Rounding::HalfEven) {
      quantize_half_even(in + begin, out + begin, end - begin, inverse, output_scale, low, high);
    } else {
      quantize_half_up(in + begin, out + begin, end - begin, inverse, output_scale, low, high);
    }
  });
}

/// One exponent, a range of float32 numbers: what quantize_dense() can do (after a copy when `value` is not dense).
bool has_fast_path(const at::Tensor& value, const std::vector<int>& exponents, int bits) {
  return exponents.size() == 1 && bits <= 16 && value.scalar_type() == at::kFloat && value.is_cpu();
}

/// `overwrite`: the result may take the place of `value`.
at::Tensor quantize_fast(const at::Tensor& value, int exponent, int bits, Rounding rounding, float output_scale,
                         bool overwrite) {
  const bool dense = value.is_non_overlapping_and_dense();
  at::Tensor result = overwrite && dense ? value : dense ? at::empty_like(value) : value.clone();
  quantize_dense(dense ? value : result, result, exponent, bits, rounding, output_scale);
  return result;
}

at::Tensor codes_of(const at::Tensor& value, const std::vector<int>& exponents, int channel_axis, int bits,
                    Rounding rounding) {
  internal_check(!exponents.empty(), "quantizing with an unknown exponent");
  const at::Tensor real = value.is_floating_point() ? value : value.to(at::kFloat);
  if (has_fast_path(real, exponents, bits)) return quantize_fast(real, exponents[0], bits, rounding, 1.0f, false);
  const at::Tensor scaled = real / scale_tensor(exponents, channel_axis, real);
  return round_tensor(scaled, rounding).clamp(quant_min(bits), quant_max(bits));
}

at::Tensor forward_value(const at::Tensor& value, const std::vector<int>& exponents, int channel_axis, int bits,
                         Rounding rounding, bool overwrite = false) {
  if (has_fast_path(value, exponents, bits))
    return quantize_fast(value, exponents[0], bits, rounding, std::ldexp(1.0f, exponents[0]), overwrite);
  return codes_of(value, exponents, channel_axis, bits, rounding) * scale_tensor(exponents, channel_axis, value);
}

}  // namespace

at::Tensor fake_quantize(const at::Tensor& value, const std::vector<int>& exponents, int channel_axis, int bits,
                         Rounding rounding) {
  internal_check(!exponents.empty(), "quantizing with an unknown exponent");
  return forward_value(value.requires_grad() ? value.detach() : value, exponents, channel_axis, bits, rounding);
}

at::Tensor fake_quantize_result(at::Tensor value, const std::vector<int>& exponents, int channel_axis, int bits,
                                Rounding rounding) {
  internal_check(!exponents.empty(), "quantizing with an unknown exponent");
  const bool unseen = value.use_count() == 1 && value.storage().use_count() == 1;
  return forward_value(value, exponents, channel_axis, bits, rounding, unseen);
}

at::Tensor quantize_to_codes(const at::Tensor& value, const std::vector<int>& exponents, int channel_axis, int bits,
                             Rounding rounding) {
  return codes_of(value, exponents, channel_axis, bits, rounding);
}

at::Tensor quantize_to_integers(const at::Tensor& value, const std::vector<int>& exponents, int channel_axis, int bits,
                                Rounding rounding) {
  const at::ScalarType dtype = bits <= 8 ? at::kChar : bits <= 16 ? at::kShort : bits <= 32 ? at::kInt : at::kLong;
  if (bits <= 24) return codes_of(value, exponents, channel_axis, bits, rounding).to(dtype);
  // The range limits of wide grids are not float32 numbers: round in the tensor's type, saturate in float64/integers.
  internal_check(!exponents.empty(), "quantizing with an unknown exponent");
  const at::Tensor rounded =
      round_tensor(value / scale_tensor(exponents, channel_axis, value), rounding).to(at::kDouble);
  if (bits < 53) return rounded.clamp(quant_min(bits), quant_max(bits)).to(dtype);
  const at::Tensor high = rounded >= quant_max(bits), low = rounded <= quant_min(bits);
  const int64_t limit = bits == 64 ? std::numeric_limits<int64_t>::max() : (int64_t{1} << (bits - 1)) - 1;
  return rounded.masked_fill(high.logical_or(low), 0)
      .to(at::kLong)
      .masked_fill(high, limit)
      .masked_fill(low, -limit - 1);
}

at::Tensor dequantize(const at::Tensor& codes, const std::vector<int>& exponents, int channel_axis) {
  const at::Tensor real =
      codes.is_floating_point() ? codes : codes.to(codes.element_size() > 2 ? at::kDouble : at::kFloat);
  return real * scale_tensor(exponents, channel_axis, real);
}

}  // namespace espq
