#include "passes/optimize/learn_rounding.h"

#include "core/exec/side_by_side.h"
#include "passes/optimize/block_walk.h"
#include "passes/optimize/rounding_learner.h"

namespace espq {

PassReport learn_rounding(Graph& quantized, const Graph& teacher, const Dataset& data,
                          const LearnRoundingOptions& options, const Quirks& quirks) {
  PassReport report{"learn_rounding"};
  if (!has_layers(quantized)) return report;
  const OneThreadEach single;  // samples run side by side instead
  const DividedData parts = hold_out(data);
  Judges judges(teacher, parts);
  warn_of_single_sample(parts, report);
  TrainableGraph network(quantized, {.quirks = quirks});
  BlockWalk walk(network, teacher, parts, single.threads());
  RoundingLearner learner(network, options, single.threads(), report);
  walk.run(BlockCuts::Narrow, options.block_size, [&](const Block& block, const BlockSamples& samples, size_t number) {
    learner.train(block, samples, number);
  });
  keep_if_better(quantized, network.graph(), judges, single.threads(), report);
  return report;
}

}  // namespace espq
