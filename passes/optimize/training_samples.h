#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "core/data/dataset.h"
#include "core/exec/executor.h"
#include "core/graph/graph.h"
#include "passes/optimize/held_out.h"

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

/// Runs `piece` on every sample, on `threads` threads with a piece each.
std::vector<Tensors> run_samples(const std::function<Piece()>& piece, const std::vector<Tensors>& feeds,
                                 size_t threads);

}  // namespace espq
