#pragma once
#include <functional>

#include "passes/optimize/blocks.h"
#include "passes/optimize/judges.h"
#include "passes/optimize/training_choices.h"
#include "passes/optimize/training_samples.h"
#include "passes/report.h"
#include "qat/trainable_graph.h"

namespace espq {

/// What a pass that trains block by block goes through, for any number of threads with the same numbers.
class BlockWalk {
 public:
  /// `teacher`: the network before passes changed its weights; `data` without held-out ones: all are for training.
  BlockWalk(TrainableGraph& network, const Graph& teacher, const DividedData& data, size_t threads);

  /// Calls `train` with each block of network.view() and its samples, from the front to the back: feeds are what the
  /// blocks in front, trained by then, make of the data.
  using Train = std::function<void(const Block& block, const BlockSamples& samples, size_t number)>;
  void run(BlockCuts cuts, int64_t size, const Train& train);
  /// The network as one block, from its inputs to its outputs.
  void run_whole(const Train& train);

  /// Results of all operations of a block for one sample.
  static int64_t elements(const Block& block);

 private:
  TrainableGraph& network_;
  const Graph& teacher_;
  Block whole_;
  TrainingSamples samples_;
  size_t threads_;
};

/// There is something to train: an operation with weights.
bool has_layers(const Graph& graph);

/// Warns when nothing could be held out.
void warn_of_single_sample(const DividedData& data, PassReport& report);

/// `quantized` becomes `trained` (the same network) if its outputs get better by that, on data that were trained on and
/// on others; otherwise the report has no changes any more. Notes both errors. Whether it did.
bool keep_if_better(Graph& quantized, const Graph& trained, Judges& judges, size_t threads, PassReport& report);

}  // namespace espq
