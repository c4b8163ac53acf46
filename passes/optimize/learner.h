#pragma once
#include <ATen/core/Tensor.h>

#include "core/graph/graph.h"

namespace espq {

/// A leaf that learns by Adam (beta 0.9 and 0.999, epsilon 1e-8).
class Learner {
 public:
  /// `rate`: the largest step that Adam takes, per element or for what broadcasts to the leaf.
  Learner(at::Tensor leaf, at::Tensor rate) : leaf_(std::move(leaf)), rate_(std::move(rate)) {}
  const at::Tensor& leaf() const { return leaf_; }
  /// `factor`: of the rate, by the schedule.
  void step(const at::Tensor& gradient, double factor);

 private:
  at::Tensor leaf_, rate_, mean_, square_;
  int64_t steps_ = 0;
};

/// The step of a constant's grid in real numbers, per channel as a tensor that broadcasts to it; of a bias that of the
/// result, which is what a bias changes. Of a constant without grid 1/127 of its largest value.
at::Tensor grid_step(const Graph& graph, const Operation& operation, size_t slot);

}  // namespace espq
