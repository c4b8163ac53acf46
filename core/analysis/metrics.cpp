#include "core/analysis/metrics.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/support/error.h"

namespace espq {

std::vector<int64_t> best_classes(const at::Tensor& scores) {
  const at::Tensor rows = scores.dim() < 2 ? scores.reshape({1, -1}) : scores.flatten(1);
  user_check(rows.size(1) > 1, "an output of shape [{}] has one value per sample: no scores to choose a class by",
             fmt::join(scores.sizes(), ", "));
  const at::Tensor best = rows.argmax(1);
  return {best.data_ptr<int64_t>(), best.data_ptr<int64_t>() + best.numel()};
}

double percent_equal(const std::vector<int64_t>& classes, const std::vector<int64_t>& wanted) {
  user_check(!classes.empty() && classes.size() == wanted.size(), "{} results, but {} to compare them with",
             classes.size(), wanted.size());
  size_t equal = 0;
  for (size_t i = 0; i < classes.size(); ++i) equal += classes[i] == wanted[i];
  return 100.0 * static_cast<double>(equal) / static_cast<double>(classes.size());
}

double decibel_of(const std::vector<double>& noise_to_signal) {
  double sum = 0;
  for (const double value : noise_to_signal) sum += value;
  return -10 * std::log10(sum / static_cast<double>(noise_to_signal.size()));
}

}  // namespace espq
