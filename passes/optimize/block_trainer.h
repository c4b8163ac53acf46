#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <vector>

#include "passes/optimize/gradual_rounding.h"
#include "passes/optimize/judges.h"
#include "passes/optimize/learner.h"
#include "passes/optimize/training_choices.h"
#include "passes/optimize/training_samples.h"
#include "qat/training.h"

namespace espq {

struct TrainingLoop {
  int64_t steps = 0;
  int64_t batch = 8;     ///< samples per step, at most those that there are
  double warm_up = 0.1;  ///< in so large a share of the steps the rate grows to its height
  RateSchedule schedule = RateSchedule::Cosine;
  SampleOrder order = SampleOrder::Drawn;
  bool relative = true;  ///< errors of each output over its power; false: as they are
  uint64_t seed = 1;
  size_t threads = 1;

  /// Of the learning rate's height, at a step.
  double rate(int64_t step) const;
};

/// A loop that makes a block answer to quantized feeds like the float network to its own. Every step cuts its batch in
/// the same way and adds up gradients in the same order, whatever the number of threads: the result is the same bytes.
class BlockTrainer {
 public:
  /// `elements`: results of all operations for one sample; small ones run several samples at a time.
  BlockTrainer(const BlockSamples& samples, const TrainingLoop& loop, int64_t elements);

  /// Noise over signal of the block's outputs (with `relative`, else mean squared error), on samples for training and
  /// on those that are held out. Where none are, both numbers are of the first.
  JudgedNoise error(const std::function<Piece()>& piece) const;

  struct Steps {
    int64_t begin = 0, end = 0;  ///< of the loop
    /// The block for one part of a batch, which is told how much is rounded.
    std::function<Piece(std::shared_ptr<const RoundedShare>)> piece;
    std::function<double(int64_t step)> share = nullptr;  ///< rounded at a step; without it everything
    std::function<void(int64_t step)> before = nullptr;   ///< called first at every step
    /// What the loss has beside the error; may be undefined.
    std::function<at::Tensor(int64_t step)> penalty = nullptr;
  };
  void train(std::vector<Learner>& learners, const Steps& steps);

 private:
  using Places = std::vector<size_t>;
  Places batch(int64_t step);
  double error(const std::vector<Tensors>& results, size_t begin, size_t end) const;
  at::Tensor loss(const Tensors& results, const Tensors& targets, int64_t samples) const;

  const BlockSamples& samples_;
  TrainingLoop loop_;
  size_t batch_, together_;
  std::vector<double> weights_;  ///< of each output's mean squared error
  std::unique_ptr<BatchOrder> order_;
};

}  // namespace espq
