#include "passes/quantize/observer.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "core/support/error.h"
#include "core/support/vector_clones.h"

namespace espq {

namespace {

constexpr double kSmallestScale = 1e-8;
constexpr int kMseBins = 2048;

/// The tensor's memory as one row of float32 in any order; copies only what has gaps or another dtype.
at::Tensor as_flat_float(const at::Tensor& value) {
  at::Tensor flat = value.detach().to(at::kCPU, at::kFloat);
  if (!flat.is_non_overlapping_and_dense()) flat = flat.contiguous();
  return flat.as_strided({flat.numel()}, {1});
}

/// The order statistics that leave out the share 1 - p on either side; the minimum and maximum of small tensors.
std::pair<float, float> percentile_range(const at::Tensor& value, double p) {
  const at::Tensor flat = as_flat_float(value);
  const int64_t count = flat.numel();
  const auto low = std::max<int64_t>(0, static_cast<int64_t>(static_cast<double>(count) * (1 - p)));
  const auto high = std::min(static_cast<int64_t>(static_cast<double>(count) * p), count - 1);
  if (low == 0 && high == count - 1) {
    const auto [lowest, highest] = at::aminmax(flat);
    return {lowest.item<float>(), highest.item<float>()};
  }
  const float* data = flat.const_data_ptr<float>();
  std::vector<float> values(data, data + count);
  std::nth_element(values.begin(), values.begin() + low, values.end());
  const float lowest = values[low];
  std::nth_element(values.begin() + low, values.begin() + high, values.end());
  return {lowest, values[high]};
}

constexpr int64_t kBlock = 1024, kTables = 4;

/// The bin of every magnitude up to `range`, `bins` for `range` itself, `last` for larger ones, bins + 1 for what is no
/// number.
ESPQ_CLONES void find_bins(const float* __restrict values, int32_t* __restrict index, int64_t count, float range,
                           int32_t bins, int32_t last) {
  const auto scale = static_cast<float>(bins);
  for (int64_t i = 0; i < count; ++i) {
    const float magnitude = std::fabs(values[i]);
    const float inside = magnitude <= range ? magnitude : 0.0f;
    const auto bin = static_cast<int32_t>(inside * scale / range);
    const int32_t outside = magnitude > range ? last : bins + 1;
    index[i] = magnitude <= range ? bin : outside;
  }
}

/// Expected squared error of values with the given histogram on the one-sided grid of step 2^exponent.
double grid_error(const int32_t* counts, double bin_width, int exponent, int bits) {
  const double step = std::ldexp(1.0, exponent), highest = quant_max(bits);
  double error = 0;
  for (int bin = 0; bin < kMseBins; ++bin) {
    if (counts[bin] == 0) continue;
    const double value = (bin + 0.5) * bin_width, level = std::min(std::nearbyint(value / step), highest);
    const double distance = value - level * step;
    // Inside the range a step finer than the histogram leaves the error of rounding alone.
    const bool unresolved = step < 2 * bin_width && value / step < highest;
    error += counts[bin] * (unresolved ? step * step / 12 : distance * distance);
  }
  return error;
}

int best_exponent(const int32_t* counts, double range, int bits, RangeRule rule) {
  constexpr int kCandidates = 8;
  const int widest = exponent_of_range(-range, range, bits, rule);
  int best = widest;
  double best_error = std::numeric_limits<double>::infinity();
  for (int exponent = widest; exponent > widest - kCandidates; --exponent) {
    const double error = grid_error(counts, range / kMseBins, exponent, bits);
    if (error < best_error) best = exponent, best_error = error;
  }
  return best;
}

/// Quirks::mse_by_levels: the loss of clipping at `end` bins with `step` bins per level.
double level_loss(const int32_t* counts, int64_t total, int step, int end) {
  double loss = 0;
  for (int bin = 0; bin < kMseBins; ++bin) {
    double error;
    if (bin > end) {
      error = (bin - end) + 0.5;
    } else {
      const int left = bin % step, right = step - left - 1;
      error = left == right ? left + 0.25 : std::min(left, right) + 0.5;
    }
    loss += counts[bin] * error * error / static_cast<double>(total);
  }
  return loss;
}

}  // namespace

RangeRule range_rule(const Quirks& quirks) { return quirks.symmetric_range ? RangeRule::Symmetric : RangeRule::Tight; }

int exponent_of_range(double lowest, double highest, int bits, RangeRule rule) {
  lowest = std::min(lowest, 0.0);
  highest = std::max(highest, 0.0);
  double scale;
  if (rule == RangeRule::Symmetric) {
    scale = 2 * std::max(-lowest, highest) / (quant_max(bits) - quant_min(bits));
  } else {
    scale = std::max(lowest / (quant_min(bits) - 0.5), highest / (quant_max(bits) + 0.5));
  }
  return static_cast<int>(std::ceil(std::log2(std::max(scale, kSmallestScale))));
}

std::vector<int> exponents_of_channels(const at::Tensor& value, int channel_axis, int bits, RangeRule rule) {
  if (channel_axis < 0) {
    const auto [lowest, highest] = at::aminmax(value);
    return {exponent_of_range(lowest.item<double>(), highest.item<double>(), bits, rule)};
  }
  const at::Tensor rows = value.transpose(0, channel_axis).unsqueeze(-1).flatten(1);
  const at::Tensor lowest = rows.amin(1).to(at::kDouble), highest = rows.amax(1).to(at::kDouble);
  std::vector<int> exponents;
  for (int64_t channel = 0; channel < lowest.numel(); ++channel)
    exponents.push_back(exponent_of_range(lowest.const_data_ptr<double>()[channel],
                                          highest.const_data_ptr<double>()[channel], bits, rule));
  return exponents;
}

int exponent_by_mse(const at::Tensor& histogram, double range, int bits, const Quirks& quirks) {
  const int32_t* counts = histogram.const_data_ptr<int32_t>();
  if (!quirks.mse_by_levels) return best_exponent(counts, range, bits, range_rule(quirks));
  const int64_t total = histogram.sum().item<int64_t>();
  const int levels = 1 << bits, steps = kMseBins / levels;
  int best_end = levels * (steps + 1);
  double best_loss = level_loss(counts, total, steps + 1, best_end);
  for (int step = 1; step <= steps; ++step) {
    const double loss = level_loss(counts, total, step, levels * step);
    if (loss < best_loss) best_loss = loss, best_end = levels * step;
  }
  const double limit = best_end * (range / kMseBins);
  return exponent_of_range(-limit, limit, bits, range_rule(quirks));
}

void add_to_histogram(const at::Tensor& value, float range, at::Tensor& histogram, Beyond beyond) {
  const at::Tensor flat = as_flat_float(value);
  const float* data = flat.const_data_ptr<float>();
  const auto bins = static_cast<int32_t>(histogram.numel());
  const int32_t last = beyond == Beyond::LastBin ? bins : bins + 1;
  // Equal values in a row, zeros above all, would wait for each other in one table.
  const int64_t tables = bins <= kMseBins ? kTables : 1, pitch = bins + 2;
  std::vector<int32_t> counts(tables * pitch);
  int32_t index[kBlock];
  for (int64_t start = 0; start < flat.numel(); start += kBlock) {
    const int64_t length = std::min(kBlock, flat.numel() - start);
    find_bins(data + start, index, length, range, bins, last);
    if (tables == 1)
      for (int64_t i = 0; i < length; ++i) ++counts[index[i]];
    else
      for (int64_t i = 0; i < length; ++i) ++counts[i % kTables * pitch + index[i]];
  }
  int32_t* sums = histogram.data_ptr<int32_t>();
  for (int64_t table = 0; table < tables; ++table) {
    const int32_t* own = counts.data() + table * pitch;
    for (int32_t bin = 0; bin < bins; ++bin) sums[bin] += own[bin];
    sums[bins - 1] += own[bins];
  }
}

TensorObserver::TensorObserver(Observer method, int bits, const CalibrationOptions& options, const Quirks& quirks)
    : method_(method),
      bits_(bits),
      percentile_(options.percentile),
      quirks_(quirks),
      lowest_(std::numeric_limits<float>::infinity()),
      highest_(-std::numeric_limits<float>::infinity()) {}

void TensorObserver::observe(const at::Tensor& value) {
  internal_check(value.numel() > 0, "calibration of an empty tensor");
  ++batches_;
  if (method_ == Observer::Percentile) {
    const auto [lowest, highest] = percentile_range(value, percentile_);
    percentiles_.push_back(highest);
    percentiles_.push_back(lowest);
    highest_ = std::max(highest_, highest);
    lowest_ = std::min(lowest_, lowest);
    return;
  }
  const auto [lowest, highest] = at::aminmax(as_flat_float(value));
  const auto low = lowest.item<float>(), high = highest.item<float>();
  // A comparison with NaN is false: let it through so that range() shows it.
  lowest_ = low >= lowest_ ? lowest_ : low;
  highest_ = high <= highest_ ? highest_ : high;
}

void TensorObserver::observe_again(const at::Tensor& value) {
  if (range() == 0) return;  // only zeros: there is nothing to distribute
  if (!histogram_.defined())
    histogram_ = at::zeros({method_ == Observer::KlDivergence ? 32 << (bits_ - 1) : kMseBins}, at::kInt);
  // Layers that the first look settled round by now: what that moves a little beyond the range is still there.
  const auto limit = static_cast<float>(range());
  add_to_histogram(value, limit, histogram_, Beyond::LastBin);
}

double TensorObserver::range() const {
  return std::isnan(lowest_) || std::isnan(highest_) ? std::numeric_limits<double>::quiet_NaN()
                                                     : std::max(std::fabs(lowest_), std::fabs(highest_));
}

int TensorObserver::exponent() const {
  internal_check(batches_ > 0, "observer without data");
  switch (method_) {
    case Observer::MinMax:
      return exponent_of_range(lowest_, highest_, bits_, range_rule(quirks_));
    case Observer::Percentile: {
      const at::Tensor mean = at::tensor(percentiles_).view({-1, 2}).mean(0);
      return exponent_of_range(mean[1].item<double>(), mean[0].item<double>(), bits_, range_rule(quirks_));
    }
    case Observer::KlDivergence:
      if (!histogram_.defined()) return static_cast<int>(std::floor(std::log2(kSmallestScale) + 0.5));
      return exponent_by_kl(histogram_, range(), bits_);
    case Observer::MeanSquaredError:
      if (!histogram_.defined()) return exponent_of_range(0, 0, bits_, range_rule(quirks_));
      return exponent_by_mse(histogram_, range(), bits_, quirks_);
  }
  throw InternalError("unknown observer");
}

}  // namespace espq
