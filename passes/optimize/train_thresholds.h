#pragma once
#include <cstdint>
#include <optional>

#include "core/data/dataset.h"
#include "core/graph/graph.h"
#include "passes/optimize/learn_rounding.h"
#include "passes/optimize/training_choices.h"
#include "passes/quirks.h"
#include "passes/report.h"

namespace espq {

struct TrainThresholdsOptions {
  int64_t block_size = 4;       ///< operations with weights in a block (Depth: depth of a block)
  int64_t steps = 300;          ///< per block; 0: the network is only fine-tuned
  int64_t batch = 8;            ///< samples per step
  double rate = 0.05;           ///< of weights and biases, in `rate_unit`, at the schedule's height
  double exponent_rate = 0.02;  ///< of the base-2 logarithms of scales, in bits
  RateUnit rate_unit = RateUnit::Grid;
  RateSchedule schedule = RateSchedule::Cosine;
  double warm_up = 0.1;    ///< share of the steps in which the rate grows
  double exponents = 0.5;  ///< share of the steps at the beginning in which exponents learn
  double gradual = 0.5;    ///< share of the steps in which activations are rounded more and more, at most `exponents`
  SampleOrder order = SampleOrder::Drawn;
  BlockCuts blocks = BlockCuts::Narrow;
  Judge judge = Judge::HeldOut;
  /// At last the whole network is trained on its outputs: so many steps, with at most `fine_tune_rate` times the rate.
  /// A few steps each with that, a quarter of it and so on show which.
  int64_t fine_tune_steps = 100;
  double fine_tune_rate = 1;
  uint64_t seed = 1;
};

template <class Fields>
void describe(Fields& fields, TrainThresholdsOptions& options) {
  fields("block_size", options.block_size);
  fields("steps", options.steps);
  fields("batch", options.batch);
  fields("rate", options.rate);
  fields("exponent_rate", options.exponent_rate);
  fields("rate_unit", options.rate_unit);
  fields("schedule", options.schedule);
  fields("warm_up", options.warm_up);
  fields("exponents", options.exponents);
  fields("gradual", options.gradual);
  fields("order", options.order);
  fields("blocks", options.blocks);
  fields("judge", options.judge);
  fields("fine_tune_steps", options.fine_tune_steps);
  fields("fine_tune_rate", options.fine_tune_rate);
  fields("seed", options.seed);
}

/// Trains weights, biases and exponents of a calibrated graph until its blocks answer to quantized inputs like those of
/// `teacher`, the network before passes changed its weights (same names; a clone of `quantized` will do), and then
/// until the network does. A block is undone unless its error falls on data that were held out and on the others, and
/// so are all blocks, or the fine-tuning, when the outputs of the network got no better on both. Same bytes for any
/// number of threads. Exponents have to be brought to rest afterwards (settle, fit_accumulators). Throws UserError on
/// options that make no sense.
PassReport train_thresholds(Graph& quantized, const Graph& teacher, const Dataset& data,
                            const TrainThresholdsOptions& options, const Quirks& quirks = {},
                            const std::optional<LearnRoundingOptions>& rounding = {});

}  // namespace espq
