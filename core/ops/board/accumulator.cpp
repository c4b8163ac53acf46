#include "core/ops/board/accumulator.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/support/error.h"
#include "core/support/vector_clones.h"

namespace espq {

AccumulatorRule accumulator_rule(const Target& target, int bits, int64_t output_channels, bool depthwise) {
  const int block = target.block(bits);
  AccumulatorRule rule;
  rule.wraps = !target.vector_unit;
  rule.vector_channels = depthwise || block == 0 ? output_channels : output_channels / block * block;
  if (target.saturating_20bit) {
    rule.lane_bits = bits == 8 ? 20 : 40;
  } else {
    rule.lane_bits = bits == 8 ? 32 : 63;  // 63: int64, which no product sum of 16-bit codes reaches
  }
  return rule;
}

at::Tensor lane_bias(const AccumulatorRule& rule, const at::Tensor& bias) {
  if (!bias.defined() || rule.lane_bits >= 53) return bias;
  const at::Tensor codes = bias.to(at::kDouble).flatten();
  const double span = 2 * rule.limit();
  const at::Tensor cut = codes - at::floor((codes + rule.limit()) / span) * span;
  const int64_t vector = std::min(rule.vector_channels, codes.numel());
  return at::cat({cut.slice(0, 0, vector), codes.slice(0, vector)});
}

namespace {

constexpr int64_t kLanes = 8;

/// Sums over a row of codes, in float64: of what is above and below zero, and of the squares of both.
struct RowSums {
  double positive, negative, positive_squares, negative_squares;
};

ESPQ_CLONES void add_lanes(const float* __restrict row, int64_t count, double* __restrict lanes) {
  for (int64_t i = 0; i + kLanes <= count; i += kLanes)
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const double code = row[i + lane], up = code > 0 ? code : 0, down = up - code;
      lanes[lane] += up;
      lanes[kLanes + lane] += down;
      lanes[2 * kLanes + lane] += up * up;
      lanes[3 * kLanes + lane] += down * down;
    }
}

RowSums row_sums(const float* row, int64_t count) {
  double lanes[4 * kLanes] = {}, sums[4] = {};
  add_lanes(row, count, lanes);
  float rest[kLanes] = {};
  std::copy(row + count / kLanes * kLanes, row + count, rest);
  add_lanes(rest, kLanes, lanes);
  for (int64_t i = 0; i < 4 * kLanes; ++i) sums[i / kLanes] += lanes[i];
  return {sums[0], sums[1], sums[2], sums[3]};
}

/// function(row, its sums) for every index of axis 0.
template <typename Function>
void for_each_row(const at::Tensor& filters, const Function& function) {
  const at::Tensor rows = filters.to(at::kFloat).flatten(1).contiguous();  // codes have at most 16 bits
  const float* row = rows.const_data_ptr<float>();
  for (int64_t i = 0; i < rows.size(0); ++i) function(i, row_sums(row + i * rows.size(1), rows.size(1)));
}

}  // namespace

at::Tensor filter_magnitude(const at::Tensor& filters) {
  at::Tensor result = at::empty({filters.size(0)}, at::kDouble);
  auto* magnitudes = result.mutable_data_ptr<double>();
  for_each_row(filters, [&](int64_t i, const RowSums& sums) { magnitudes[i] = sums.positive + sums.negative; });
  return result;
}

std::vector<int64_t> channels_at_risk(const AccumulatorRule& rule, const at::Tensor& filters, const at::Tensor& bias,
                                      double input_limit) {
  at::Tensor bound = filter_magnitude(filters) * input_limit;
  if (bias.defined()) bound = bound + bias.to(at::kDouble).flatten().abs();
  bound = bound.contiguous();
  std::vector<int64_t> channels;
  const auto* value = bound.const_data_ptr<double>();
  for (int64_t channel = 0; channel < std::min(rule.vector_channels, bound.numel()); ++channel)
    if (value[channel] >= rule.limit()) channels.push_back(channel);
  return channels;
}

std::vector<int64_t> exact_pieces(const at::Tensor& magnitudes, double input_limit) {
  constexpr double kExact = 1 << 24;
  constexpr int64_t kMostPieces = 16;
  const at::Tensor columns = (magnitudes.to(at::kDouble) * input_limit).t().contiguous();  // [reduction, channels]
  const int64_t reduction = columns.size(0), channels = columns.size(1);
  const double* column = columns.const_data_ptr<double>();
  std::vector<double> sums(channels, 0.0);
  std::vector<int64_t> ends;
  for (int64_t index = 0; index < reduction; ++index, column += channels) {
    bool fits = true, alone = true;
    for (int64_t channel = 0; channel < channels; ++channel) {
      fits &= sums[channel] + column[channel] <= kExact;
      alone &= column[channel] <= kExact;
    }
    if (!alone) return {};
    if (!fits) {
      ends.push_back(index);
      std::fill(sums.begin(), sums.end(), 0.0);
    }
    for (int64_t channel = 0; channel < channels; ++channel) sums[channel] += column[channel];
  }
  ends.push_back(reduction);
  return static_cast<int64_t>(ends.size()) > kMostPieces ? std::vector<int64_t>{} : ends;
}

// ------------------------------------------------------------------------------------------------ one by one
SequentialLanes::SequentialLanes(const AccumulatorRule& rule, const at::Tensor& weights, const at::Tensor& bias)
    : channels_(weights.size(0)), taps_(weights.size(1)), lane_bits_(rule.lane_bits), wraps_(rule.wraps) {
  const at::Tensor ordered = weights.t().to(at::kInt).contiguous();
  const auto* weight = ordered.const_data_ptr<int32_t>();
  weights_.assign(weight, weight + ordered.numel());
  bias_.assign(channels_, 0);
  if (!bias.defined()) return;
  const at::Tensor start = bias.flatten().to(at::kLong).contiguous();
  std::copy_n(start.const_data_ptr<int64_t>(), channels_, bias_.begin());
}

namespace {

/// acc[c] = clamp(acc[c] + x * w[c]) for each tap; T holds a lane plus one product.
template <typename T>
__attribute__((always_inline)) inline void saturating_taps(const float* patch, const int32_t* weights, int64_t taps,
                                                           int64_t channels, int lane_bits, T* sums) {
  const T high = static_cast<T>((int64_t{1} << (lane_bits - 1)) - 1), low = -high - 1;
  for (int64_t tap = 0; tap < taps; ++tap, weights += channels) {
    const auto x = static_cast<T>(patch[tap]);
    if (x == 0) continue;
    for (int64_t channel = 0; channel < channels; ++channel) {
      T sum = sums[channel] + x * static_cast<T>(weights[channel]);
      sum = sum > high ? high : sum;
      sums[channel] = sum < low ? low : sum;
    }
  }
}

ESPQ_CLONES void saturating_taps32(const float* patch, const int32_t* weights, int64_t taps, int64_t channels,
                                   int lane_bits, int32_t* sums) {
  saturating_taps(patch, weights, taps, channels, lane_bits, sums);
}
ESPQ_CLONES void saturating_taps64(const float* patch, const int32_t* weights, int64_t taps, int64_t channels,
                                   int lane_bits, int64_t* sums) {
  saturating_taps(patch, weights, taps, channels, lane_bits, sums);
}

}  // namespace

void SequentialLanes::run(const float* patch, int64_t* sums) const {
  std::copy(bias_.begin(), bias_.end(), sums);
  if (wraps_) {
    const int32_t* weight = weights_.data();
    for (int64_t tap = 0; tap < taps_; ++tap, weight += channels_)
      for (int64_t channel = 0; channel < channels_; ++channel)
        sums[channel] += static_cast<int64_t>(patch[tap]) * weight[channel];
    const int unused = 64 - lane_bits_;
    for (int64_t channel = 0; channel < channels_; ++channel)
      sums[channel] = static_cast<int64_t>(static_cast<uint64_t>(sums[channel]) << unused) >> unused;
  } else if (lane_bits_ <= 30) {  // products of int8 codes: sum + product stays inside int32
    std::vector<int32_t> narrow(bias_.begin(), bias_.end());
    saturating_taps32(patch, weights_.data(), taps_, channels_, lane_bits_, narrow.data());
    std::copy(narrow.begin(), narrow.end(), sums);
  } else {
    saturating_taps64(patch, weights_.data(), taps_, channels_, lane_bits_, sums);
  }
}

// ------------------------------------------------------------------------------------------------ filter
CodeRange code_range(const at::Tensor& input) {
  const auto [low, high] = at::aminmax(input);
  return {low.item<double>(), high.item<double>()};
}

OverflowFilter::OverflowFilter(const AccumulatorRule& rule, const at::Tensor& filters, const at::Tensor& bias)
    : limit_(rule.limit()) {
  for (at::Tensor* sums : {&positive_, &negative_, &positive_norm_, &negative_norm_, &norm_})
    *sums = at::empty({filters.size(0)}, at::kDouble);
  for_each_row(filters, [&](int64_t i, const RowSums& sums) {
    positive_.mutable_data_ptr<double>()[i] = sums.positive;
    negative_.mutable_data_ptr<double>()[i] = sums.negative;
    positive_norm_.mutable_data_ptr<double>()[i] = std::sqrt(sums.positive_squares);
    negative_norm_.mutable_data_ptr<double>()[i] = std::sqrt(sums.negative_squares);
    norm_.mutable_data_ptr<double>()[i] = std::sqrt(sums.positive_squares + sums.negative_squares);
  });
  bias_ = bias.defined() ? bias.to(at::kDouble).flatten() : at::zeros_like(positive_);
  // A float32 sum of n non-negative products is off by at most a factor 1 + n * 2^-24.
  slack_ =
      1.0 + static_cast<double>(filters.numel() / std::max<int64_t>(filters.size(0), 1) + 2) * std::ldexp(1.0, -23);
}

/// True when a sum may rise by `up` or fall by `down` beyond a lane.
bool OverflowFilter::outside(const at::Tensor& up, const at::Tensor& down) const {
  return (bias_ + up).max().item<double>() >= limit_ || (bias_ - down).min().item<double>() < -limit_;
}

bool OverflowFilter::possible(const CodeRange& range) const {
  const double above = std::max(0.0, range.high), below = std::max(0.0, -range.low);
  return outside(positive_ * above + negative_ * below, negative_ * above + positive_ * below);
}

bool OverflowFilter::possible(const CodeRange& range, double energy) const {
  const double length = std::sqrt(energy * slack_);
  if (range.low >= 0) return outside(positive_norm_ * length, negative_norm_ * length);
  return outside(norm_ * length, norm_ * length);
}

at::Tensor OverflowFilter::suspects(const at::Tensor& absolute, const at::Tensor& exact, int64_t channel_axis) const {
  std::vector<int64_t> shape(absolute.dim(), 1);
  shape[channel_axis < 0 ? channel_axis + absolute.dim() : channel_axis] = bias_.numel();
  const at::Tensor bias = bias_.reshape(shape);
  // |x||w| sums up to positive + negative products, x * w to their difference.
  const at::Tensor whole = absolute.to(at::kDouble) * slack_, difference = exact.to(at::kDouble);
  const at::Tensor highest = bias + (whole + difference) / 2, lowest = bias - (whole - difference) / 2;
  return (highest >= limit_).logical_or(lowest < -limit_);
}

}  // namespace espq
