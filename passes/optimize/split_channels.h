#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/data/dataset.h"
#include "core/graph/graph.h"
#include "core/quant/target.h"
#include "passes/report.h"

namespace espq {

/// Whose grid gets finer: that of results, or that of weights where a weight has one exponent.
enum class SplitChannelsOf { Results, Weights };

struct SplitChannelsOptions {
  /// Layers whose results and weights may gain, by name or pattern ('*', '?'); empty: all.
  std::vector<std::string> names = {};
  double share = 0.05;  ///< of a tensor's channels that may become two each; one may always
  int64_t batches = 8;  ///< of the data, to see ranges
  double gain = 0.02;   ///< share of the noise that has to go, for convert() to keep it
};

template <class Fields>
void describe(Fields& fields, SplitChannelsOptions& options) {
  fields("names", options.names);
  fields("share", options.share);
  fields("batches", options.batches);
  fields("gain", options.gain);
}

/// Makes two of a channel, each half as large, which the layers that read it add up again: a row of weights and its
/// bias become two of half the size, or (weights of the readers) a column does. (Outlier channel splitting, Zhao et al.
/// 2019, arXiv 1901.09504.) With power-of-two scales a grid gets finer only where everything fits into half of its
/// range; so the channels of a tensor that need the other half are split if they are few, and no others.
/// The layers between which a channel lies have one group; between them stand operations of one operand that do the
/// same to every channel whatever their number (Relu, pools, ...) and Adds of tensors with the same channels.
/// Channels of depthwise layers, those that meet a Clip or another bound, and those of graph inputs and outputs stay.
class SplitChannels {
 public:
  /// Sees the ranges of `graph`, a float graph with shapes, on `options.batches` batches. The graph must outlive this.
  /// Throws UserError on options that make no sense and naming an entry of `names` that no layer has.
  SplitChannels(const Graph& graph, const Dataset& data, const SplitChannelsOptions& options = {});
  ~SplitChannels();

  /// Changes `copy`, a clone of the graph. Where its float outputs differ by more than float rounding it is left alone.
  PassReport apply(Graph& copy, const Target& target, SplitChannelsOf what) const;

 private:
  struct Seen;
  std::unique_ptr<Seen> seen_;
};

}  // namespace espq
