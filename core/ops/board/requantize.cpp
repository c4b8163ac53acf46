#include "core/ops/board/requantize.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "core/support/error.h"
#include "core/support/vector_clones.h"

namespace espq {
namespace {

/// One run of sums of type In, computed with in type T: each of the channel beside it (`by_channel`), or all of one.
template <typename In, typename T>
struct Run {
  const In* in;
  float* out;
  int64_t count;
  const T* bias;
  const T* factor;
  T low, high;
};

template <bool kHalfUp, bool kByChannel, typename In, typename T>
__attribute__((always_inline)) inline void requantize_body(const Run<In, T>& run) {
  const In* in = run.in;
  float* out = run.out;
  const T *bias = run.bias, *factor = run.factor;
  const T low = run.low, high = run.high, first_bias = bias[0], first_factor = factor[0];
  for (int64_t i = 0; i < run.count; ++i) {
    T value = (static_cast<T>(in[i]) + (kByChannel ? bias[i] : first_bias)) * (kByChannel ? factor[i] : first_factor);
    value = kHalfUp ? std::floor(value + T(0.5)) : std::nearbyint(value);
    value = value < low ? low : value;
    out[i] = static_cast<float>(value > high ? high : value);
  }
}

template <typename In, typename T>
__attribute__((always_inline)) inline void requantize_any(const Run<In, T>& run, bool half_up, bool by_channel) {
  if (half_up) return by_channel ? requantize_body<true, true>(run) : requantize_body<true, false>(run);
  return by_channel ? requantize_body<false, true>(run) : requantize_body<false, false>(run);
}

/// A run of sums of halves, by channel; vectors of `kLanes` of either half take turns.
struct HalvesRun {
  const int32_t* in;
  float* out;
  int64_t count;
  const double *bias, *factor;
  double low, high;
};

template <bool kHalfUp, int64_t kLanes>
__attribute__((always_inline)) inline void requantize_halves(const HalvesRun& run) {
  const int32_t* in = run.in;
  for (int64_t first = 0; first < run.count; first += kLanes, in += 2 * kLanes) {
    float codes[kLanes];
    const double *bias = run.bias + first, *factor = run.factor + first;
    const int64_t count = run.count - first;
    const auto requantize = [&](int64_t i) {
      double value = (256.0 * static_cast<double>(in[i]) + static_cast<double>(in[kLanes + i]) + bias[i]) * factor[i];
      value = kHalfUp ? std::floor(value + 0.5) : std::nearbyint(value);
      value = value < run.low ? run.low : value;
      codes[i] = static_cast<float>(value > run.high ? run.high : value);
    };
    if (count >= kLanes) {
      for (int64_t i = 0; i < kLanes; ++i) requantize(i);
      std::copy_n(codes, kLanes, run.out + first);
    } else {
      for (int64_t i = 0; i < count; ++i) requantize(i);
      std::copy_n(codes, count, run.out + first);
    }
  }
}

ESPQ_CLONES void dispatch(const HalvesRun& run, bool half_up, int64_t lanes) {
  if (lanes == 16) return half_up ? requantize_halves<true, 16>(run) : requantize_halves<false, 16>(run);
  return half_up ? requantize_halves<true, 8>(run) : requantize_halves<false, 8>(run);
}

ESPQ_CLONES void dispatch(const Run<float, float>& run, bool half_up, bool by_channel) {
  requantize_any(run, half_up, by_channel);
}
ESPQ_CLONES void dispatch(const Run<double, double>& run, bool half_up, bool by_channel) {
  requantize_any(run, half_up, by_channel);
}
ESPQ_CLONES void dispatch(const Run<int32_t, float>& run, bool half_up, bool by_channel) {
  requantize_any(run, half_up, by_channel);
}
ESPQ_CLONES void dispatch(const Run<int32_t, double>& run, bool half_up, bool by_channel) {
  requantize_any(run, half_up, by_channel);
}

template <typename T>
struct Epilogue {
  const std::vector<T>&bias, &factors;
  bool half_up;
  T low, high;

  template <typename In>
  void tile(const In* in, const IntegerSums& sums, float* out, int64_t out_pitch) const {
    const bool by_channel = bias.size() > 1;
    const int64_t first = by_channel ? sums.first : 0;
    for (int64_t row = 0; row < sums.rows; ++row, in += sums.pitch, out += out_pitch)
      dispatch(Run<In, T>{in, out, sums.columns, bias.data() + first, factors.data() + first, low, high}, half_up,
               by_channel);
  }

  /// Channels innermost: rows of all channels.
  void rows(const T* in, float* out, int64_t count) const {
    const auto channels = static_cast<int64_t>(bias.size());
    at::parallel_for(0, count, std::max<int64_t>(1, 16384 / channels), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        dispatch(Run<T, T>{in + row * channels, out + row * channels, channels, bias.data(), factors.data(), low, high},
                 half_up, true);
    });
  }

  void uniform(const T* in, float* out, int64_t count) const {
    at::parallel_for(0, count, 16384, [&](int64_t begin, int64_t end) {
      dispatch(Run<T, T>{in + begin, out + begin, end - begin, bias.data(), factors.data(), low, high}, half_up, false);
    });
  }

  /// One plane of `inner` elements after the other, channel by channel.
  void planes(const T* in, float* out, int64_t count, int64_t inner) const {
    const auto channels = static_cast<int64_t>(bias.size());
    at::parallel_for(0, count, std::max<int64_t>(1, 16384 / inner), [&](int64_t begin, int64_t end) {
      for (int64_t plane = begin; plane < end; ++plane) {
        const int64_t channel = plane % channels;
        dispatch(
            Run<T, T>{in + plane * inner, out + plane * inner, inner, &bias[channel], &factors[channel], low, high},
            half_up, false);
      }
    });
  }

  void run(const at::Tensor& sums, at::Tensor& result, int64_t channel_axis) const {
    const T* in = sums.const_data_ptr<T>();
    float* out = result.mutable_data_ptr<float>();
    const auto channels = static_cast<int64_t>(bias.size());
    if (sums.numel() == 0) return;
    if (channels == 1) return uniform(in, out, sums.numel());
    if (!sums.is_contiguous()) return rows(in, out, sums.numel() / channels);
    int64_t inner = 1;
    for (int64_t axis = channel_axis + 1; axis < sums.dim(); ++axis) inner *= sums.size(axis);
    if (inner == 1) return rows(in, out, sums.numel() / channels);
    planes(in, out, sums.numel() / inner, inner);
  }
};

}  // namespace

Requantizer::Requantizer(const BoardContext& context, int64_t channels, const at::Tensor& bias, double largest_sum)
    : rounding_(context.target.rounding) {
  const Operation& operation = context.operation;
  const Grid &input = context.inputs.at(0), &weight = context.inputs.at(1), &output = context.outputs.at(0);
  user_check(input.quantized() && weight.quantized() && output.quantized(),
             "operation '{}' ({}): input, weight and output need 8 or 16 bit grids", operation.name(),
             operation.type());
  user_check(weight.exponents.size() == 1 || static_cast<int64_t>(weight.exponents.size()) == channels,
             "operation '{}' ({}): {} weight exponents for {} output channels", operation.name(), operation.type(),
             weight.exponents.size(), channels);
  for (int64_t channel = 0; channel < channels; ++channel) {
    const int weight_exponent = weight.exponents[weight.exponents.size() == 1 ? 0 : channel];
    shifts_.push_back(output.exponent() - input.exponent() - weight_exponent);
    factors_.push_back(std::ldexp(1.0, -shifts_.back()));
  }
  bias_.assign(channels, 0.0);
  if (bias.defined()) {
    const at::Tensor flat = bias.to(at::kDouble).flatten().contiguous();
    user_check(flat.numel() == channels, "operation '{}' ({}): {} bias values for {} output channels", operation.name(),
               operation.type(), flat.numel(), channels);
    std::copy_n(flat.const_data_ptr<double>(), channels, bias_.begin());
  }
  double largest_bias = 0;
  for (double value : bias_) largest_bias = std::max(largest_bias, std::abs(value));
  float32_ = largest_sum + largest_bias < (1 << 23);
  bias_by_channel_ = bias_;
  factors_by_channel_ = factors_;
  if (!bias.defined() && weight.exponents.size() == 1) {  // nothing depends on the channel
    shifts_.resize(1);
    bias_.resize(1);
    factors_.resize(1);
  }
  bias32_.assign(bias_.begin(), bias_.end());
  factors32_.assign(factors_.begin(), factors_.end());
  low_ = operation.chip().fused_relu.value_or(false) ? 0.0f : static_cast<float>(quant_min(output.bits));
  high_ = static_cast<float>(quant_max(output.bits));
}

at::Tensor Requantizer::operator()(at::Tensor sums, int64_t channel_axis) const {
  if (channel_axis < 0) channel_axis += sums.dim();
  if (!sums.is_contiguous() && !sums.movedim(channel_axis, -1).is_contiguous()) sums = sums.contiguous();
  const bool half_up = rounding_ == Rounding::HalfUp;
  if (float32_ && sums.scalar_type() == at::kFloat) {
    Epilogue<float>{bias32_, factors32_, half_up, low_, high_}.run(sums, sums, channel_axis);
    return sums;
  }
  at::Tensor result = at::empty_like(sums, at::kFloat);
  Epilogue<double>{bias_, factors_, half_up, low_, high_}.run(sums.to(at::kDouble), result, channel_axis);
  return result;
}

void Requantizer::operator()(const IntegerSums& sums, float* out, int64_t out_pitch) const {
  const bool half_up = rounding_ == Rounding::HalfUp;
  const Epilogue<double> wide{bias_, factors_, half_up, low_, high_};
  if (sums.doubles) return wide.tile(sums.doubles, sums, out, out_pitch);
  if (sums.lanes > 0) {
    const double* bias = bias_by_channel_.data() + sums.first;
    const double* factors = factors_by_channel_.data() + sums.first;
    for (int64_t row = 0; row < sums.rows; ++row)
      dispatch(
          HalvesRun{sums.integers + row * sums.pitch, out + row * out_pitch, sums.columns, bias, factors, low_, high_},
          half_up, sums.lanes);
    return;
  }
  if (!float32_) return wide.tile(sums.integers, sums, out, out_pitch);
  Epilogue<float>{bias32_, factors32_, half_up, low_, high_}.tile(sums.integers, sums, out, out_pitch);
}

float Requantizer::code(int64_t accumulator, int64_t channel) const {
  const int shift = shifts_.size() == 1 ? shifts_[0] : shifts_[channel];
  const double shifted = shift > 0 ? static_cast<double>(rounding_shift(accumulator, shift, rounding_))
                                   : std::ldexp(static_cast<double>(accumulator), -shift);
  return std::clamp(static_cast<float>(std::clamp(shifted, -1e9, 1e9)), low_, high_);
}

}  // namespace espq
