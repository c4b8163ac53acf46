#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/data/dataset.h"
#include "passes/optimize/blocks.h"
#include "passes/optimize/held_out.h"
#include "qat/trainable_graph.h"

namespace espq {

/// Calibration data sample by sample, those for training first.
struct TrainingSamples {
  std::vector<Tensors> inputs;  ///< of the network, one per graph input
  size_t training = 0;          ///< so many are for training, the others decide
  /// Samples may run together, one behind the other along the first dimension. Otherwise a sample is a batch of the
  /// data set.
  bool joinable = false;
};

/// `variables` of `network` (the edges of its blocks) decide whether samples are joinable: that is tried on two of
/// them.
TrainingSamples training_samples(const Graph& network, const DividedData& data,
                                 const std::vector<const Variable*>& variables);

/// What a block gets from the quantized network and what it should make of it.
struct BlockSamples {
  std::vector<Tensors> feeds;    ///< per sample, one per input of the block
  std::vector<Tensors> targets;  ///< per sample, one per output; undefined where it holds no floats
  size_t training = 0;
  bool joinable = false;
};

/// The edge between the blocks that are trained and those that are not: quantized values on one side, float values of
/// the untouched network on the other. Holds what later blocks read, nothing else. Samples run side by side.
class TrainingFront {
 public:
  /// `network` gives quantized values (it is trained meanwhile), `teacher` float ones; `blocks` are of network.view().
  TrainingFront(TrainableGraph& network, const Graph& teacher, const std::vector<Block>& blocks,
                const TrainingSamples& samples, size_t threads);

  /// Of the next block; its float results are computed.
  BlockSamples samples(const Block& block);
  /// The block is as it stays: its quantized results are computed, and what nobody reads any more is dropped.
  void pass(const Block& block, const BlockSamples& samples);

 private:
  using Values = std::unordered_map<std::string, at::Tensor>;
  TrainableGraph& network_;
  const Graph& teacher_;
  Executor teaches_;
  std::unordered_map<std::string, size_t> last_reader_;  ///< number of the last block that reads a variable
  std::vector<Values> quantized_, exact_;
  size_t training_, threads_, position_ = 0;
  bool joinable_;
};

/// Runs `piece` on every sample, on `threads` threads with a piece each.
std::vector<Tensors> run_samples(const std::function<Piece()>& piece, const std::vector<Tensors>& feeds,
                                 size_t threads);

}  // namespace espq
