#include "core/quant/fake_quantize.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/quant/grid_rows.h"
#include "core/support/error.h"

namespace espq {
namespace {

at::Tensor codes_of(const at::Tensor& value, const std::vector<int>& exponents, int channel_axis, int bits,
                    Rounding rounding) {
  internal_check(!exponents.empty(), "quantizing with an unknown exponent");
  const at::Tensor real = value.is_floating_point() ? value : value.to(at::kFloat);
  if (has_grid_rows(real, exponents)) return round_rows(real, exponents, channel_axis, bits, rounding, {.codes = true});
  const at::Tensor scaled = real / scale_tensor(exponents, channel_axis, real);
  return round_tensor(scaled, rounding).clamp(quant_min(bits), quant_max(bits));
}

at::Tensor forward_value(const at::Tensor& value, const std::vector<int>& exponents, int channel_axis, int bits,
                         Rounding rounding, bool overwrite = false) {
  if (has_grid_rows(value, exponents))
    return round_rows(value, exponents, channel_axis, bits, rounding, {.overwrite = overwrite});
  return codes_of(value, exponents, channel_axis, bits, rounding) * scale_tensor(exponents, channel_axis, value);
}

/// Nobody but the caller can see the memory of the value that he holds.
bool unseen(const at::Tensor& value) {
  return value.use_count() == 1 && value.storage().use_count() == 1 && !value.requires_grad();
}

}  // namespace

at::Tensor scale_tensor(const std::vector<int>& exponents, int channel_axis, const at::Tensor& like) {
  std::vector<double> scales;
  scales.reserve(exponents.size());
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

at::Tensor fake_quantize(const at::Tensor& value, const std::vector<int>& exponents, int channel_axis, int bits,
                         Rounding rounding) {
  internal_check(!exponents.empty(), "quantizing with an unknown exponent");
  return forward_value(value.requires_grad() ? value.detach() : value, exponents, channel_axis, bits, rounding);
}

// NOLINTBEGIN(performance-unnecessary-value-param): whether somebody else holds the value shows in its use count
at::Tensor fake_quantize_result(at::Tensor value, const std::vector<int>& exponents, int channel_axis, int bits,
                                Rounding rounding) {
  internal_check(!exponents.empty(), "quantizing with an unknown exponent");
  return forward_value(value, exponents, channel_axis, bits, rounding, unseen(value));
}

at::Tensor fake_quantize_clamped(at::Tensor value, const ClipBounds& bounds, const Grid& grid, Rounding rounding) {
  internal_check(grid.exponents.size() == 1, "clamping and rounding in one pass takes one exponent");
  if (has_grid_rows(value, grid.exponents))
    return round_rows(value, grid.exponents, -1, grid.bits, rounding, {.overwrite = unseen(value), .bounds = bounds});
  return forward_value(at::clamp(value, bounds.low, bounds.high), grid.exponents, -1, grid.bits, rounding, true);
}

at::Tensor clamp_result(at::Tensor value, const ClipBounds& bounds) {
  internal_check(value.scalar_type() == at::kFloat, "bounds in float32 for another dtype");
  return unseen(value) ? value.clamp_(bounds.low, bounds.high) : at::clamp(value, bounds.low, bounds.high);
}
// NOLINTEND(performance-unnecessary-value-param)

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
