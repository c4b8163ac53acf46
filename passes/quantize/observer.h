#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "core/quant/scheme.h"
#include "passes/quirks.h"

namespace espq {

/// How exponents come from data.
struct CalibrationOptions {
  /// Which method looks at the activations of 8-bit and of 16-bit operations.
  Observer observer = Observer::MeanSquaredError;
  Observer observer_int16 = Observer::MinMax;
  /// The same for 8-bit results of the network, and for what a Softmax or moves alone make results of: classes are
  /// told apart by their largest values, which are all the same once they are cut off. None = as other activations.
  std::optional<Observer> result_observer = Observer::MinMax;
  /// The same for constants. Weights with an exponent per channel always use minmax.
  Observer parameter_observer = Observer::MinMax;
  Observer parameter_observer_int16 = Observer::MinMax;
  /// Share of the values of a batch that the percentile observer keeps on either side.
  double percentile = 0.9999;
  /// Batches to run; the data set is repeated when it has fewer. 0 = every batch once.
  int64_t steps = 0;
  /// Activations kept between the two phases of kl and mse, in MiB. Batches that do not fit are run a second time; the
  /// numbers are the same.
  int64_t cache_mebibytes = 512;
};

template <class Fields>
void describe(Fields& fields, CalibrationOptions& options) {
  fields("observer", options.observer);
  fields("observer_int16", options.observer_int16);
  fields("result_observer", options.result_observer);
  fields("parameter_observer", options.parameter_observer);
  fields("parameter_observer_int16", options.parameter_observer_int16);
  fields("percentile", options.percentile);
  fields("steps", options.steps);
  fields("cache_mebibytes", options.cache_mebibytes);
}

/// The method for every slot of a graph, by the id of its scale: create_slots chooses, quantize_parameters and
/// calibrate follow.
class ObserverTable {
 public:
  void set(const SlotQuant& slot, Observer observer) { of_scale_[slot.scale] = {observer, false}; }
  /// The slot stands at the end of the network: its grid may wait for those of all others, which do not depend on it.
  void set_result(const SlotQuant& slot, Observer observer) { of_scale_[slot.scale] = {observer, true}; }
  Observer of(const SlotQuant& slot) const { return of_scale_.at(slot.scale).observer; }
  bool is_result(const SlotQuant& slot) const { return of_scale_.at(slot.scale).result; }

 private:
  struct Choice {
    Observer observer;
    bool result;
  };
  std::unordered_map<ScaleId, Choice> of_scale_;
};

/// From a range of values to an exponent.
enum class RangeRule {
  /// Smallest exponent at which no value is off by more than half a step: lowest >= (qmin - 0.5) * 2^e and
  /// highest <= (qmax + 0.5) * 2^e.
  Tight,
  /// Smallest exponent whose grid holds 2 * max(|lowest|, |highest|) in qmax - qmin steps (Quirks::symmetric_range).
  Symmetric,
};
RangeRule range_rule(const Quirks& quirks);

/// The exponent for values between lowest and highest (zero is always included). Ranges below 1e-8 * 2^bits give -26.
int exponent_of_range(double lowest, double highest, int bits, RangeRule rule);

/// Exponents per channel of a constant, or one when channel_axis < 0: minmax of the slice.
std::vector<int> exponents_of_channels(const at::Tensor& value, int channel_axis, int bits, RangeRule rule);

/// KL divergence between a histogram of |x| (32 * 2^(bits-1) bins up to `range`) and its quantized version, minimised
/// over 32 clipping limits; the exponent nearest to the best limit's step.
int exponent_by_kl(const at::Tensor& histogram, double range, int bits);

/// The power of two below the full range with the smallest error of rounding and clipping on that very grid (or as
/// Quirks::mse_by_levels). 2048 bins of |x| up to `range`.
int exponent_by_mse(const at::Tensor& histogram, double range, int bits, const Quirks& quirks = {});

/// Where values beyond the range of a histogram count.
enum class Beyond { Nowhere, LastBin };

/// Adds the histogram of |x| over [0, range] to `histogram` (int32), values equal to `range` in the last bin, what is
/// no number nowhere. Bin edges are those of at::histc on float32.
void add_to_histogram(const at::Tensor& value, float range, at::Tensor& histogram, Beyond beyond = Beyond::Nowhere);

/// One tensor's statistics over the calibration batches.
class TensorObserver {
 public:
  TensorObserver(Observer method, int bits, const CalibrationOptions& options = {}, const Quirks& quirks = {});

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
  double percentile_;
  Quirks quirks_;
  int64_t batches_ = 0;
  float lowest_, highest_;
  std::vector<float> percentiles_;  ///< highest, lowest of every batch
  at::Tensor histogram_;
};

}  // namespace espq
