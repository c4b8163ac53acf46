#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace espq {

/// The best class of every row of a classifier's scores [N, classes, ...]; a 1-D tensor is one row. Ties: the first.
/// Throws UserError when a row has one value only, which is no choice.
std::vector<int64_t> best_classes(const at::Tensor& scores);

/// Share of equal entries, in percent. Throws UserError when the numbers of entries differ.
double percent_equal(const std::vector<int64_t>& classes, const std::vector<int64_t>& wanted);

/// Noise to signal, averaged over samples, in decibel.
double decibel_of(const std::vector<double>& noise_to_signal);

}  // namespace espq
