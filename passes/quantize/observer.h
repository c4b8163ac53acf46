#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "core/quant/scheme.h"
#include "core/support/json_fields.h"

namespace espq {

/// From a range of values to an exponent.
enum class RangeRule {
  /// Smallest exponent whose grid holds 2 * max(|lowest|, |highest|) in qmax - qmin steps: a minimum of exactly
  /// -128 * 2^e already takes e + 1 (esp-ppq).
  Symmetric,
  /// Smallest exponent at which no value is off by more than half a step: lowest >= (qmin - 0.5) * 2^e and
  /// highest <= (qmax + 0.5) * 2^e.
  Tight,
};

/// How the mean-squared-error observer searches.
enum class MseSearch {
  /// Every power of two below the full range, with the error of rounding and clipping on that very grid.
  Exponents,
  /// esp-ppq 1.3.12: eight clipping limits of a one-sided histogram with a two-sided number of levels, then the range
  /// rule. 16-bit results are 32 times too coarse.
  Levels,
};

struct ObserverOptions {
  RangeRule range_rule = RangeRule::Tight;
  MseSearch mse_search = MseSearch::Exponents;
  /// Share of the values of a batch that the percentile observer keeps on either side.
  double percentile = 0.9999;
};

template <>
struct EnumNames<RangeRule> {
  static const std::vector<std::pair<RangeRule, std::string_view>> values;
};
template <>
struct EnumNames<MseSearch> {
  static const std::vector<std::pair<MseSearch, std::string_view>> values;
};

template <class Fields>
void describe(Fields& fields, ObserverOptions& options) {
  fields("range_rule", options.range_rule);
  fields("mse_search", options.mse_search);
  fields("percentile", options.percentile);
}

/// The exponent for values between lowest and highest (zero is always included). Ranges below 1e-8 * 2^bits give -26.
int exponent_of_range(double lowest, double highest, int bits, RangeRule rule);

/// Exponents per channel of a constant, or one when channel_axis < 0: minmax of the slice.
std::vector<int> exponents_of_channels(const at::Tensor& value, int channel_axis, int bits, RangeRule rule);

/// KL divergence between a histogram of |x| (32 * 2^(bits-1) bins up to `range`) and its quantized version, minimised
/// over 32 clipping limits; the exponent nearest to the best limit's step.
int exponent_by_kl(const at::Tensor& histogram, double range, int bits);

/// See MseSearch. 2048 bins of |x| up to `range`.
int exponent_by_mse(const at::Tensor& histogram, double range, int bits, const ObserverOptions& options);

/// Adds the histogram of |x| over [0, range] to `histogram` (int32), values equal to `range` in the last bin, larger
/// ones dropped. Bin edges are those of at::histc on float32.
void add_to_histogram(const at::Tensor& value, float range, at::Tensor& histogram);

/// One tensor's statistics over the calibration batches.
class TensorObserver {
 public:
  TensorObserver(Observer method, int bits, const ObserverOptions& options);

  /// Kl and mse need a second look at the same data, once the range is known.
  bool two_phase() const { return method_ == Observer::KlDivergence || method_ == Observer::MeanSquaredError; }
  void observe(const at::Tensor& value);
  /// After all observe() calls.
  void observe_again(const at::Tensor& value);
  bool empty() const { return batches_ == 0; }
  /// Largest magnitude seen; infinite or NaN when the data were.
  double range() const;
  int exponent() const;

 private:
  Observer method_;
  int bits_;
  ObserverOptions options_;
  int64_t batches_ = 0;
  float lowest_, highest_;
  std::vector<float> percentiles_;  ///< highest, lowest of every batch
  at::Tensor histogram_;
};

}  // namespace espq
