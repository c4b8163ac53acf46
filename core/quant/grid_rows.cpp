#include "core/quant/grid_rows.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <bit>
#include <cmath>

#include "core/quant/scheme.h"
#include "core/support/error.h"
#include "core/support/vector_clones.h"

namespace espq {
namespace {

// `out` is `in` or apart from it. NOLINTNEXTLINE(bugprone-macro-parentheses): i is declared
#define ESPQ_EACH(i, count) ESPQ_INDEPENDENT for (int64_t i = 0; i < (count); ++i)

template <Rounding rounding>
inline float rounded(float value) {
  return rounding == Rounding::HalfEven ? std::nearbyint(value) : std::floor(value + 0.5f);
}

inline float clamped(float value, const GridFloats& grid) {
  const float q = value < grid.low ? grid.low : value;
  return q > grid.high ? grid.high : q;
}

#define ESPQ_ROUND(name, rounding)                                                                            \
  ESPQ_CLONES void name(const float* in, float* out, uint8_t*, int64_t count, GridFloats grid) {              \
    ESPQ_EACH(i, count) out[i] = clamped(rounded<rounding>(in[i] * grid.inverse), grid) * grid.scale;         \
  }                                                                                                           \
  ESPQ_CLONES void name##_masked(const float* in, float* out, uint8_t* __restrict inside, int64_t count,      \
                                 GridFloats grid) {                                                           \
    ESPQ_EACH(i, count) {                                                                                     \
      const float r = rounded<rounding>(in[i] * grid.inverse), q = clamped(r, grid);                          \
      inside[i] = r == q;                                                                                     \
      out[i] = q * grid.scale;                                                                                \
    }                                                                                                         \
  }                                                                                                           \
  ESPQ_CLONES void name##_relu(const float* in, float* out, uint8_t*, int64_t count, GridFloats grid) {       \
    ESPQ_EACH(i, count) {                                                                                     \
      const float value = in[i] < 0 ? 0.0f : in[i];                                                           \
      out[i] = clamped(rounded<rounding>(value * grid.inverse), grid) * grid.scale;                           \
    }                                                                                                         \
  }                                                                                                           \
  ESPQ_CLONES void name##_relu_masked(const float* in, float* out, uint8_t* __restrict inside, int64_t count, \
                                      GridFloats grid) {                                                      \
    ESPQ_EACH(i, count) {                                                                                     \
      const float value = in[i] < 0 ? 0.0f : in[i];                                                           \
      const float r = rounded<rounding>(value * grid.inverse), q = clamped(r, grid);                          \
      inside[i] = (r == q ? value : 0.0f) > 0;                                                                \
      out[i] = q * grid.scale;                                                                                \
    }                                                                                                         \
  }
// `out` may be neither operand.
#define ESPQ_ROUND_TWO(name, rounding, combined, mask, limit)                                        \
  ESPQ_CLONES void name(const float* __restrict a, const float* __restrict b, float* __restrict out, \
                        uint8_t* __restrict inside, int64_t count, GridFloats grid) {                \
    for (int64_t i = 0; i < count; ++i) {                                                            \
      const float both = (combined), value = (limit);                                                \
      const float r = rounded<rounding>(value * grid.inverse), q = clamped(r, grid);                 \
      inside[i] = (mask);                                                                            \
      out[i] = q * grid.scale;                                                                       \
    }                                                                                                \
  }
#define ESPQ_ROUND_COMBINED(name, combined)                                                          \
  ESPQ_ROUND_TWO(half_even_##name, Rounding::HalfEven, combined, r == q, both)                       \
  ESPQ_ROUND_TWO(half_up_##name, Rounding::HalfUp, combined, r == q, both)                           \
  ESPQ_ROUND_TWO(half_even_##name##_relu, Rounding::HalfEven, combined, (r == q ? value : 0.0f) > 0, \
                 both < 0 ? 0.0f : both)                                                             \
  ESPQ_ROUND_TWO(half_up_##name##_relu, Rounding::HalfUp, combined, (r == q ? value : 0.0f) > 0,     \
                 both < 0 ? 0.0f : both)                                                             \
  auto name##_function(Rounding rounding, bool relu) {                                               \
    if (rounding == Rounding::HalfEven) return relu ? half_even_##name##_relu : half_even_##name;    \
    return relu ? half_up_##name##_relu : half_up_##name;                                            \
  }
ESPQ_ROUND_COMBINED(sum, a[i] + b[i])
ESPQ_ROUND_COMBINED(product, a[i] * b[i])
#undef ESPQ_ROUND_COMBINED
#undef ESPQ_ROUND_TWO

ESPQ_ROUND(half_even, Rounding::HalfEven)
ESPQ_ROUND(half_up, Rounding::HalfUp)
#undef ESPQ_ROUND

#define ESPQ_PRODUCTS(name, rounding)                                                                        \
  ESPQ_CLONES void name(const float* __restrict in, const float* __restrict gradient, float* __restrict out, \
                        float* __restrict products, int64_t count, GridFloats grid) {                        \
    for (int64_t i = 0; i < count; ++i) {                                                                    \
      const float v = in[i] * grid.inverse, r = rounded<rounding>(v), q = clamped(r, grid);                  \
      out[i] = r == q ? gradient[i] : 0.0f;                                                                  \
      products[i] = gradient[i] * (r == q ? r - v : q);                                                      \
    }                                                                                                        \
  }
ESPQ_PRODUCTS(products_half_even, Rounding::HalfEven)
ESPQ_PRODUCTS(products_half_up, Rounding::HalfUp)
#undef ESPQ_PRODUCTS

using RoundTwo = void (*)(const float*, const float*, float*, uint8_t*, int64_t, GridFloats);

at::Tensor round_two(const at::Tensor& a, const at::Tensor& b, RoundTwo function, const GridFloats& grid,
                     at::Tensor& inside) {
  at::Tensor result = at::empty_like(a);
  inside = at::empty_like(a, at::kByte);
  const float *first = a.const_data_ptr<float>(), *second = b.const_data_ptr<float>();
  float* out = result.mutable_data_ptr<float>();
  uint8_t* mask = inside.mutable_data_ptr<uint8_t>();
  at::parallel_for(0, result.numel(), kRowGrain, [&](int64_t begin, int64_t end) {
    function(first + begin, second + begin, out + begin, mask + begin, end - begin, grid);
  });
  return result;
}

using Round = void (*)(const float*, float*, uint8_t*, int64_t, GridFloats);

Round round_function(Rounding rounding, bool relu, bool masked) {
  if (rounding == Rounding::HalfEven)
    return relu ? (masked ? half_even_relu_masked : half_even_relu) : (masked ? half_even_masked : half_even);
  return relu ? (masked ? half_up_relu_masked : half_up_relu) : (masked ? half_up_masked : half_up);
}

/// std::ldexp(1.0f, exponent) of an exponent of a normal number, without its call: one for every row of a tensor.
float power_of_two(int exponent) {
  constexpr int kBias = 127, kMantissa = 23;
  if (exponent <= -kBias || exponent > kBias) return std::ldexp(1.0f, exponent);
  return std::bit_cast<float>(static_cast<uint32_t>(exponent + kBias) << kMantissa);
}

/// A grid that gives what rounding on `grid` gives of values within `bounds`.
GridFloats narrowed(GridFloats grid, const ClipBounds& bounds, Rounding rounding) {
  const auto code = [&](float bound) {
    const float scaled = bound * grid.inverse;
    return clamped(
        rounding == Rounding::HalfEven ? rounded<Rounding::HalfEven>(scaled) : rounded<Rounding::HalfUp>(scaled), grid);
  };
  const float low = code(bounds.low), high = code(bounds.high);
  grid.low = low;
  grid.high = high;
  return grid;
}

}  // namespace

GridFloats grid_floats(int exponent, int bits) {
  return {power_of_two(-exponent), power_of_two(exponent), static_cast<float>(quant_min(bits)),
          static_cast<float>(quant_max(bits))};
}

void round_row(const float* in, float* out, uint8_t* inside, int64_t count, const GridFloats& grid, Rounding rounding,
               bool relu) {
  round_function(rounding, relu, inside != nullptr)(in, out, inside, count, grid);
}

ESPQ_CLONES void mask_row(const float* gradient, const uint8_t* inside, float* out, int64_t count) {
  ESPQ_EACH(i, count) out[i] = inside[i] ? gradient[i] : 0.0f;
}

at::Tensor masked_gradient(const at::Tensor& gradient, const at::Tensor& inside) {
  if (inside.scalar_type() == at::kBool || gradient.scalar_type() != at::kFloat ||
      gradient.strides() != inside.strides())
    return at::where(inside.to(at::kBool), gradient, 0.0);
  at::Tensor result = at::empty_like(inside, at::kFloat);
  const float* in = gradient.const_data_ptr<float>();
  const uint8_t* mask = inside.const_data_ptr<uint8_t>();
  float* out = result.mutable_data_ptr<float>();
  at::parallel_for(0, inside.numel(), kRowGrain,
                   [&](int64_t begin, int64_t end) { mask_row(in + begin, mask + begin, out + begin, end - begin); });
  return result;
}

void scale_products(const float* in, const float* gradient, float* out, float* products, int64_t count,
                    const GridFloats& grid, Rounding rounding) {
  const auto function = rounding == Rounding::HalfEven ? products_half_even : products_half_up;
  function(in, gradient, out, products, count, grid);
}

GridRows::GridRows(const at::Tensor& value, int channel_axis, size_t exponents) {
  if (exponents == 1) {
    length = value.numel();
    return;
  }
  internal_check(channel_axis >= 0 && channel_axis < value.dim(), "channel axis outside the tensor's rank");
  for (int axis = 0; axis < channel_axis; ++axis) outer *= value.size(axis);
  channels = value.size(channel_axis);
  length = value.numel() / std::max<int64_t>(outer * channels, 1);
  internal_check(channels == static_cast<int64_t>(exponents),
                 "number of exponents differs from the number of channels");
}

void GridRows::for_each(const std::function<void(int64_t, int64_t, int64_t)>& function) const {
  if (outer * channels == 1) {
    at::parallel_for(0, length, kRowGrain, [&](int64_t begin, int64_t end) { function(0, begin, end - begin); });
    return;
  }
  at::parallel_for(0, outer * channels, std::max<int64_t>(1, kRowGrain / std::max<int64_t>(length, 1)),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t row = begin; row < end; ++row) function(row % channels, row * length, length);
                   });
}

bool has_grid_rows(const at::Tensor& value, const std::vector<int>& exponents) {
  return value.is_cpu() && value.scalar_type() == at::kFloat &&
         std::all_of(exponents.begin(), exponents.end(), [](int e) { return e > -120 && e < 90; });
}

at::Tensor walkable(const at::Tensor& value, size_t exponents) {
  return exponents == 1 && value.is_non_overlapping_and_dense() ? value : value.contiguous();
}

at::Tensor round_rows(const at::Tensor& value, const std::vector<int>& exponents, int channel_axis, int bits,
                      Rounding rounding, RowOptions options, at::Tensor* inside) {
  const at::Tensor dense = walkable(value, exponents.size());
  const bool reuse = options.overwrite || !dense.is_same(value);
  at::Tensor result = reuse ? dense : at::empty_like(dense);
  if (inside) *inside = at::empty_like(dense, at::kByte);
  const float* in = dense.const_data_ptr<float>();
  float* out = result.mutable_data_ptr<float>();
  uint8_t* mask = inside ? inside->mutable_data_ptr<uint8_t>() : nullptr;
  const Round round = round_function(rounding, options.relu, mask != nullptr);
  const GridRows rows(dense, channel_axis, exponents.size());
  rows.for_each([&](int64_t channel, int64_t begin, int64_t count) {
    GridFloats grid = grid_floats(exponents[channel], bits);
    if (exponents.size() == 1) grid = narrowed(grid, options.bounds, rounding);
    if (options.codes) grid.scale = 1;
    round(in + begin, out + begin, mask ? mask + begin : nullptr, count, grid);
  });
  return result;
}

at::Tensor round_sum(const at::Tensor& a, const at::Tensor& b, const RowRounding& rounding, at::Tensor& inside) {
  return round_two(a, b, sum_function(rounding.rounding, rounding.relu), rounding.grid, inside);
}

at::Tensor round_product(const at::Tensor& a, const at::Tensor& b, const RowRounding& rounding, at::Tensor& inside) {
  return round_two(a, b, product_function(rounding.rounding, rounding.relu), rounding.grid, inside);
}

}  // namespace espq
