#include "core/analysis/tensor_error.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/exec/chip_grid.h"
#include "core/support/error.h"

namespace espq {
namespace {

constexpr int kErrorReach = 16;        // error histogram: -16 .. 16 LSB
constexpr int kRangeIntervals = 64;    // value histogram: intervals inside the range
constexpr int kOutsideIntervals = 16;  // ... and beyond either end of it
constexpr double kTinySignal = 1e-7;   // as Measure::NoiseToSignal

void count(Histogram& histogram, double value) {
  const double position = (value - histogram.low) / (histogram.high - histogram.low);
  const auto intervals = static_cast<double>(histogram.counts.size());
  if (!(position >= 0))
    ++histogram.below;
  else if (position >= 1)
    ++histogram.above;
  else
    ++histogram.counts[static_cast<size_t>(position * intervals)];
}

/// Smallest exponent whose range holds both limits (to half a step).
int needed_exponent(double lowest, double highest, int bits) {
  int exponent = -126;
  const auto holds = [&](int candidate) {
    return highest <= std::ldexp(quant_max(bits) + 0.5, candidate) &&
           lowest >= std::ldexp(quant_min(bits) - 0.5, candidate);
  };
  while (exponent < 127 && !holds(exponent)) ++exponent;
  return exponent;
}

}  // namespace

Grid value_grid(const Runnable& runnable, const Variable& variable) {
  if (runnable.precision == Precision::Float || variable.is_parameter()) return {};
  if (runnable.graph.is_chip()) {
    const Grid grid = variable_grid(&variable);
    return grid.quantized() && grid.exponents.size() == 1 ? grid : Grid{};
  }
  const Operation* producer = variable.producer();
  if (!producer || !producer->quantized()) return {};
  const SlotQuant& slot = producer->output_quant()[variable.producer_slot()];
  const std::vector<int> exponents = slot.quantizes() ? slot_exponents(runnable.graph, slot) : std::vector<int>{};
  return exponents.size() == 1 ? Grid{slot.bits, exponents} : Grid{};
}

at::Tensor to_order_of_a(const at::Tensor& b, const std::vector<int64_t>& order) {
  std::vector<int64_t> inverse(order.size());
  for (size_t i = 0; i < order.size(); ++i) inverse[order[i]] = static_cast<int64_t>(i);
  return b.permute(inverse);
}

TensorErrorSums::TensorErrorSums(const Grid& grid) : grid_(grid) {
  if (!grid.quantized()) return;
  GridError& result = error_.grid.emplace();
  result.bits = grid.bits;
  result.exponent = grid.exponent();
  result.error = {-kErrorReach - 0.5, kErrorReach + 0.5, std::vector<int64_t>(2 * kErrorReach + 1), 0, 0};
  const double low = quant_min(grid.bits) - 0.5, high = quant_max(grid.bits) + 0.5;
  const double beyond = (high - low) / kRangeIntervals * kOutsideIntervals;
  result.values = {std::ldexp(low - beyond, grid.exponent()), std::ldexp(high + beyond, grid.exponent()),
                   std::vector<int64_t>(kRangeIntervals + 2 * kOutsideIntervals), 0, 0};
}

void TensorErrorSums::add_to_grid(double a, double b, double error) {
  GridError& result = *error_.grid;
  const double lowest = quant_min(grid_.bits), highest = quant_max(grid_.bits);
  const double a_code = std::ldexp(a, -grid_.exponent()), b_code = std::ldexp(b, -grid_.exponent());
  const bool clipped = a_code > highest + 0.5 || a_code < lowest - 0.5;
  const bool saturated = b_code >= highest || b_code <= lowest;
  clipped_ += clipped;
  saturated_ += saturated;
  if (clipped) clipped_noise_ += error * error;
  // A value that rounds to the end of the range is no error of saturation.
  if (!clipped && saturated && std::abs(error) > std::ldexp(0.5, grid_.exponent())) saturated_noise_ += error * error;
  count(result.error, std::ldexp(error, -grid_.exponent()));
  count(result.values, a);
}

void TensorErrorSums::add(const at::Tensor& a, const at::Tensor& b) {
  internal_check(a.sizes() == b.sizes(), "compared tensors differ in shape");
  if (error_.shape.empty()) error_.shape = a.sizes().vec();
  const at::Tensor want = a.to(at::kDouble).contiguous(), got = b.to(at::kDouble).contiguous();
  const double *x = want.const_data_ptr<double>(), *y = got.const_data_ptr<double>();
  const int64_t rows = a.dim() <= 1 ? 1 : a.size(0), row = rows ? a.numel() / rows : 0;
  for (int64_t sample = 0; sample < rows; ++sample) {
    double noise = 0, signal = 0, power = 0, product = 0;
    for (int64_t i = 0; i < row; ++i, ++x, ++y) {
      const bool equal = *x == *y || (std::isnan(*x) && std::isnan(*y));
      const double error = equal ? 0 : *y - *x;
      error_.different += !equal;
      if (!std::isfinite(*x)) continue;  // masks: they have no power
      noise += error * error;
      absolute_ += std::abs(error);
      signed_ += error;
      error_.max_error = std::max(error_.max_error, std::isnan(error) ? INFINITY : std::abs(error));
      signal += *x * *x;
      power += *y * *y;
      product += *x * *y;
      lowest_ = std::min(lowest_, *x);
      highest_ = std::max(highest_, *x);
      if (error_.grid) add_to_grid(*x, *y, error);
    }
    noise_ += noise;
    error_.noise_to_signal += noise / (signal + kTinySignal);
    const double norm = std::sqrt(signal) * std::sqrt(power);
    error_.cosine += norm > 0 ? product / norm : noise > 0 ? 0 : 1;
    error_.mean_squared_error += row ? noise / static_cast<double>(row) : 0;
  }
  samples_ += rows;
  error_.elements += a.numel();
}

TensorError TensorErrorSums::result() const {
  TensorError error = error_;
  const double samples = std::max<double>(static_cast<double>(samples_), 1);
  const double elements = std::max<double>(static_cast<double>(error.elements), 1);
  error.noise_to_signal /= samples;
  error.cosine /= samples;
  error.mean_squared_error /= samples;
  error.mean_error = signed_ / elements;
  error.mean_absolute_error = absolute_ / elements;
  if (!error.grid) return error;
  GridError& grid = *error.grid;
  grid.needed_exponent = lowest_ <= highest_ ? needed_exponent(lowest_, highest_, grid.bits) : grid.exponent;
  grid.clipped = static_cast<double>(clipped_) / elements;
  grid.saturated = static_cast<double>(saturated_) / elements;
  if (noise_ > 0) {
    grid.clipped_noise = clipped_noise_ / noise_;
    grid.saturated_noise = saturated_noise_ / noise_;
    grid.rounding_noise = elements * std::ldexp(1.0 / 12, 2 * grid.exponent) / noise_;
  }
  return error;
}

}  // namespace espq
