#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "core/analysis/compare.h"

namespace espq {

/// The grid that quantizes the variable when `runnable` runs; not quantized() where there is none.
Grid value_grid(const Runnable& runnable, const Variable& variable);

/// Undoes `order` (b = a.permute(order)).
at::Tensor to_order_of_a(const at::Tensor& b, const std::vector<int64_t>& order);

/// Running sums of the differences of one tensor, in double precision.
class TensorErrorSums {
 public:
  explicit TensorErrorSums(const Grid& grid);

  /// `a` is the reference; equal shapes; axis 0 counts samples (a 1-D tensor is one sample).
  void add(const at::Tensor& a, const at::Tensor& b);
  /// Without names.
  TensorError result() const;

 private:
  Grid grid_;
  TensorError error_;
  int64_t samples_ = 0, clipped_ = 0, saturated_ = 0;
  double noise_ = 0, clipped_noise_ = 0, saturated_noise_ = 0, absolute_ = 0, signed_ = 0;
  double lowest_ = std::numeric_limits<double>::infinity(), highest_ = -std::numeric_limits<double>::infinity();

  void add_to_grid(double a, double b, double error);
};

}  // namespace espq
