// The KL observer's search. It decides between limits whose divergences may differ in the last bits only (few values,
// many empty bins), so the arithmetic is that of the reference: float32 probabilities, float64 logarithms, LibTorch's
// own order of summation. Logarithms are taken once per bin and once per group, not once per bin and limit.
#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "core/support/error.h"
#include "passes/quantize/observer.h"

namespace espq {
namespace {

constexpr double kTiny = 1e-30;  // keeps the logarithm of an empty bin finite

class KlSearch {
 public:
  KlSearch(const at::Tensor& histogram, int64_t levels)
      : bins_(histogram.numel()),
        levels_(levels),
        counts_(histogram.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true)) {
    // The bins next to zero hold most of the values of a rectified tensor and would decide alone.
    const auto ignored = static_cast<int64_t>(static_cast<double>(bins_) * 0.002);
    counts_.narrow(0, 0, ignored).zero_();
    counts_[ignored] = 1;
    total_ = counts_.sum();
    probability_ = (counts_ / total_).to(at::kDouble);
    logarithm_ = at::log10(probability_ + kTiny);
  }

  /// The number of bins below the best clipping limit.
  int64_t best_limit() {
    double best_divergence = std::numeric_limits<double>::infinity();
    int64_t best = levels_;
    for (int64_t limit = levels_; limit <= bins_; limit += levels_) {
      const double divergence = divergence_at(limit);
      if (divergence < best_divergence) best_divergence = divergence, best = limit;
    }
    return best;
  }

 private:
  double divergence_at(int64_t limit) {
    fill_difference(limit, group_logarithms(limit));
    const at::Tensor p = probability_.narrow(0, 0, limit), difference = difference_.narrow(0, 0, limit);
    if (limit == bins_) return at::dot(p, difference).item<double>();
    // What lies above the limit is clipped to its last bin.
    const at::Tensor clipped = (counts_[limit - 1] + counts_.narrow(0, limit, bins_ - limit).sum()) / total_;
    const at::Tensor own = p[limit - 1].clone();
    p[limit - 1] = clipped.to(at::kDouble);
    difference[limit - 1] = at::log10(p[limit - 1] + kTiny) - last_logarithm_;
    const auto divergence = at::dot(p, difference).item<double>();
    p[limit - 1] = own;
    return divergence;
  }

  /// log10 of the quantized distribution: every group of bins is replaced by the mean of its occupied bins.
  at::Tensor group_logarithms(int64_t limit) {
    const int64_t width = limit / levels_;
    const float* counts = counts_.const_data_ptr<float>();
    float *means = means_.data_ptr<float>(), *merged = merged_.data_ptr<float>();
    for (int64_t group = 0; group < levels_; ++group, counts += width, merged += width) {
      double sum = 0;  // exact: counts are integers
      int64_t occupied = 0;
      for (int64_t i = 0; i < width; ++i) {
        sum += counts[i];
        occupied += counts[i] > 0;
      }
      means[group] = static_cast<float>(sum) / static_cast<float>(std::max<int64_t>(occupied, 1));
      for (int64_t i = 0; i < width; ++i) merged[i] = counts[i] > 0 ? means[group] : 0.0f;
    }
    return at::log10((means_ / merged_.narrow(0, 0, limit).sum()).to(at::kDouble) + kTiny);
  }

  void fill_difference(int64_t limit, const at::Tensor& group_logarithm) {
    const int64_t width = limit / levels_;
    const float* counts = counts_.const_data_ptr<float>();
    const double *logarithm = logarithm_.const_data_ptr<double>(), *group = group_logarithm.const_data_ptr<double>();
    double* difference = difference_.data_ptr<double>();
    const double empty = at::log10(at::full({1}, kTiny, at::kDouble)).item<double>();
    for (int64_t i = 0; i < limit; ++group)
      for (const int64_t end = i + width; i < end; ++i) {
        last_logarithm_ = counts[i] > 0 ? *group : empty;
        difference[i] = logarithm[i] - last_logarithm_;
      }
  }

  int64_t bins_, levels_;
  at::Tensor counts_, total_, probability_, logarithm_;
  at::Tensor means_ = at::empty({levels_}, at::kFloat), merged_ = at::empty({bins_}, at::kFloat);
  double last_logarithm_ = 0;  ///< of the quantized distribution, in the last bin below the limit
  at::Tensor difference_ = at::empty({bins_}, at::kDouble);
};

}  // namespace

int exponent_by_kl(const at::Tensor& histogram, double range, int bits) {
  const auto bins = static_cast<double>(histogram.numel());
  const int64_t levels = int64_t{1} << (bits - 1);
  internal_check(histogram.numel() == 32 * levels, "KL histogram of the wrong size");
  const auto limit = static_cast<double>(KlSearch(histogram, levels).best_limit());
  const double scale = (limit / bins) * (range / bins) * (bins / static_cast<double>(levels));
  return static_cast<int>(std::floor(std::log2(std::max(scale, 1e-8)) + 0.5));
}

}  // namespace espq
