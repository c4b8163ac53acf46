#pragma once
#include <memory>
#include <unordered_set>
#include <vector>

#include "passes/optimize/block_trainer.h"
#include "passes/optimize/blocks.h"
#include "passes/optimize/learn_rounding.h"
#include "passes/optimize/soft_rounding.h"
#include "qat/trainable_graph.h"

namespace espq {

/// Learned rounding of one block after the other of a network that is trained (learn_rounding.h).
class RoundingLearner {
 public:
  /// Throws UserError on options that make no sense. Everything must outlive this.
  RoundingLearner(TrainableGraph& network, const LearnRoundingOptions& options, size_t threads, PassReport& report);

  /// `number`: of the block, for the order of its samples. Constants that an earlier block had stay.
  void train(const Block& block, const BlockSamples& samples, size_t number);

 private:
  /// A constant weight, and how it rounds meanwhile.
  struct SoftWeight {
    const Variable* variable;
    at::Tensor leaf;  ///< of the network
    std::shared_ptr<SoftRounding> rounding;
  };

  std::vector<Learner> learners_of(const Block& block);
  GridRounding grid_of(const Operation& operation, size_t slot) const;
  BlockTrainer::Steps steps_of(const Block& block, double error);
  at::Tensor undecided(double power) const;
  Piece part(const Block& block, const std::shared_ptr<const RoundedShare>& share);

  TrainableGraph& network_;
  const LearnRoundingOptions& options_;
  size_t threads_;
  PassReport& report_;
  std::vector<SoftWeight> weights_;  ///< of the block
  std::unordered_set<const Variable*> seen_;
};

}  // namespace espq
