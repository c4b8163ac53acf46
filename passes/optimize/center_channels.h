#pragma once
#include <cstdint>
#include <memory>

#include "core/data/dataset.h"
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

/// What of a network is brought to the middle: results of layers one by one, or the sums (Add) of residual networks.
enum class CenterOf { Layers, Sums };

struct CenterChannelsOptions {
  int64_t batches = 8;  ///< of the data, to see ranges
  double gain = 0.02;   ///< share of the noise that has to go, for convert() to keep it
};

template <class Fields>
void describe(Fields& fields, CenterChannelsOptions& options) {
  fields("batches", options.batches);
  fields("gain", options.gain);
}

/// Adds a number to every channel of a layer's results, such that they lie as far below zero as above, and takes it
/// away again in the biases of the layers that read them: a symmetric grid then needs no room for a mean. Between the
/// two may stand Adds, whose results carry the numbers of both operands, and operations that give f(x + c) = f(x) + c
/// per channel (pools without padding, Resize, Transpose behind which channels stay on their axis). Results that reach
/// anything else, a layer that pads with zeros among them, or a graph output, stay as they are. A function of the
/// weights alone once the numbers are chosen: exact on all data, to float rounding. Generalizes bias absorption (Nagel
/// et al. 2019, arXiv 1906.04721) to channels of any sign, without the assumption that a Relu passes them.
class CenteredChannels {
 public:
  /// Sees the ranges of `graph`, a float graph with shapes, on `options.batches` batches. The graph must outlive this.
  CenteredChannels(const Graph& graph, const Dataset& data, const CenterChannelsOptions& options = {});
  ~CenteredChannels();

  /// There are channels to center.
  bool any() const;
  /// Changes `copy`, a clone of the graph. Where its float outputs differ by more than float rounding it is left alone.
  PassReport apply(Graph& copy, CenterOf what) const;

 private:
  struct Seen;
  std::unique_ptr<Seen> seen_;
};

}  // namespace espq
