#pragma once
#include <ATen/core/Tensor.h>

#include <unordered_map>
#include <vector>

#include "passes/optimize/blocks.h"
#include "passes/optimize/training_samples.h"
#include "qat/trainable_graph.h"

namespace espq {

/// The edge between the blocks that are trained and those that are not: quantized values on one side, float values of
/// the untouched network on the other. Each is computed from the nearest ones that still hold; what later blocks do not
/// read is dropped. Blocks may follow one another, overlap, or leave something out between them.
class TrainingFront {
 public:
  /// `network` gives quantized values (it is trained meanwhile), `teacher` float ones; `blocks` are of network.view().
  /// All but the samples must outlive this.
  TrainingFront(TrainableGraph& network, const Graph& teacher, const std::vector<Block>& blocks,
                const TrainingSamples& samples, size_t threads);

  /// What the current block, the first one to begin with, reads and should give.
  BlockSamples samples();
  /// The current block is as it stays, and the network refreshed: goes on to the next one.
  void advance();

 private:
  /// Per variable of network.view() a tensor per sample.
  using Values = std::unordered_map<const Variable*, std::vector<at::Tensor>>;
  /// What an operation computes with.
  struct Settings {
    std::vector<std::vector<int>> exponents;
    std::vector<at::Tensor> constants;
  };

  void require(Values& values, const std::vector<const Variable*>& wanted);
  void forget_changed();
  Settings settings(const Operation& operation) const;
  std::vector<Tensors> per_sample(const Values& values, const std::vector<const Variable*>& variables) const;

  TrainableGraph& network_;
  const Graph& teacher_;
  Executor teaches_;
  const std::vector<Block>& blocks_;
  std::unordered_map<const Variable*, size_t> last_reader_;  ///< number of the last block that reads it
  std::unordered_map<const Operation*, Settings> settings_;
  Values quantized_, exact_;
  size_t count_, training_, threads_, position_ = 0;
  bool joinable_;
};

}  // namespace espq
