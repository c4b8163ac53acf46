#pragma once
#include <cstdint>

#include "core/data/dataset.h"
#include "core/graph/graph.h"
#include "passes/quirks.h"
#include "passes/report.h"

namespace espq {

struct LearnRoundingOptions {
  int64_t block_size = 4;     ///< operations with weights in a block
  int64_t steps = 300;        ///< per block
  int64_t batch = 8;          ///< samples per step
  double rate = 0.02;         ///< of the rounding variables (4.8 of them are the way from one step to the next)
  double bias_rate = 0.01;    ///< of biases, in steps of the result's grid; 0: they stay
  double regularization = 1;  ///< weight of being undecided, in units of the block's error before
  double warm_up = 0.2;       ///< share of the steps without regularization
  double gradual = 0.5;       ///< share of the steps in which activations are rounded more and more
  uint64_t seed = 1;
};

template <class Fields>
void describe(Fields& fields, LearnRoundingOptions& options) {
  fields("block_size", options.block_size);
  fields("steps", options.steps);
  fields("batch", options.batch);
  fields("rate", options.rate);
  fields("bias_rate", options.bias_rate);
  fields("regularization", options.regularization);
  fields("warm_up", options.warm_up);
  fields("gradual", options.gradual);
  fields("seed", options.seed);
}

/// Learns for every constant weight of a calibrated graph whether it is rounded up or down (AdaRound), block by block
/// with the quantized values of the blocks in front, so that a block answers like that of `teacher`, the network before
/// passes changed its weights. Weights end on the grid they have; exponents stay. A block is left as it was unless the
/// hardened weights have a smaller error on data that were held out and on the others, and so is everything when the
/// network's outputs got no better on both. Same bytes for any number of threads. Throws UserError on options that make
/// no sense.
PassReport learn_rounding(Graph& quantized, const Graph& teacher, const Dataset& data,
                          const LearnRoundingOptions& options, const Quirks& quirks = {});

}  // namespace espq
