#include "core/ops/board/prelu.h"

#include <ATen/Parallel.h>

#include <cmath>

#include "core/ops/board/chip_math.h"
#include "core/support/error.h"

namespace espq {
namespace {

/// The int8 vector kernels of S3 and P4: one rounding shift, of code * slope or of the code. Products of int8 codes and
/// their multiples by powers of two are float32 numbers.
struct VectorPRelu {
  float negative, positive;  ///< 2^-(e_out - e_in - e_slope), 2^-(e_out - e_in)
  chip::Rounder round;

  VectorPRelu(int shift, int rescale, Rounding rounding)
      : negative(std::ldexp(1.0f, -shift)), positive(std::ldexp(1.0f, -rescale)), round(rounding, 8) {
    // The multiplier is held in an int8 lane: 2^7 is -128 there, larger ones are 0.
    if (rescale < 0) positive = rescale < -7 ? 0.0f : static_cast<float>(static_cast<int8_t>(1 << -rescale));
  }
  float operator()(float code, float slope) const { return round(code * (code < 0 ? slope * negative : positive)); }
};

/// The generic C kernel: negatives are floored, positives ignore a change of exponent.
struct PlainPRelu {
  int shift;  ///< e_out - e_in - e_slope
  int bits;

  float operator()(float code, float slope) const {
    if (code >= 0) return code;
    const auto product = static_cast<int64_t>(code) * static_cast<int64_t>(slope);
    int64_t shifted = shift > 0 ? product >> std::min(shift, 31) : product << std::min(-shift, 31);
    shifted = bits == 8 ? static_cast<int16_t>(shifted) : static_cast<int32_t>(shifted);
    return std::clamp(static_cast<float>(shifted), static_cast<float>(quant_min(bits)),
                      static_cast<float>(quant_max(bits)));
  }
};

/// Slopes are indexed by the innermost axis of the tensor, whatever its layout.
template <typename Rule>
BoardKernel prelu_kernel(const BoardContext& context, Rule rule) {
  return [rule, name = context.operation.name()](const Tensors& inputs) -> Tensors {
    const at::Tensor codes = inputs[0].contiguous();
    const int64_t channels = codes.size(-1), slopes = inputs[1].numel();
    user_check(slopes == 1 || slopes >= channels,
               "operation '{}' (PRelu): {} slopes for an innermost axis of {}: the chip library indexes slopes by the "
               "innermost axis; put channels last",
               name, slopes, channels);
    at::Tensor slope = inputs[1].reshape({-1});
    slope = slopes == 1 ? slope.expand({channels}).contiguous() : slope.contiguous();
    at::Tensor result = at::empty_like(codes);
    const float* from = codes.const_data_ptr<float>();
    const float* alpha = slope.const_data_ptr<float>();
    float* to = result.data_ptr<float>();
    at::parallel_for(0, codes.numel() / std::max<int64_t>(channels, 1), 256, [&](int64_t begin, int64_t end) {
      const Rule local = rule;  // a copy that stores to the result cannot alias
      for (int64_t row = begin; row < end; ++row) {
        const float* in = from + row * channels;
        float* out = to + row * channels;
        for (int64_t i = 0; i < channels; ++i) out[i] = local(in[i], alpha[i]);
      }
    });
    return {result};
  };
}

}  // namespace

bool runs_plain_prelu(const Target& target, int bits) { return bits != 8 || !target.vector_unit; }

/// On P4 the rounding of negative products is not documented; half-even is what the incumbent's numbers and this kernel
/// use.
BoardKernel prelu_board(const BoardContext& context) {
  if (!context.inputs[0].quantized()) return board_on_values(context);
  const int e_in = context.inputs[0].exponent(), e_out = context.outputs[0].exponent();
  const int bits = context.inputs[0].bits, shift = e_out - e_in - context.inputs[1].exponent();
  if (!runs_plain_prelu(context.target, bits))
    return prelu_kernel(context, VectorPRelu(shift, e_out - e_in, context.target.rounding));
  if (bits == 8 && shift > 0) {
    const float negative = std::ldexp(1.0f, -shift);
    return prelu_kernel(context, [negative, floor = chip::Rounder::down(8)](float code, float slope) {
      return code < 0 ? floor(code * slope * negative) : code;
    });
  }
  return prelu_kernel(context, PlainPRelu{shift, bits});
}

}  // namespace espq
