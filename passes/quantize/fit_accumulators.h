#pragma once
#include "core/data/dataset.h"
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

struct AccumulatorOptions {
  /// Coarsen the weights of a layer until no sum of the data leaves the 20-bit lanes (esp32s3, 8 bit). false: warn
  /// only.
  bool fit = true;
  /// Batches of the data set to look at, at least one.
  int64_t batches = 2;
};

template <class Fields>
void describe(Fields& fields, AccumulatorOptions& options) {
  fields("fit", options.fit);
  fields("batches", options.batches);
}

/// On chips whose vector lanes saturate at 20 bits: runs the layers that could saturate with the chip's exact kernel on
/// the data, and compares with lanes that are wide enough. Where results differ the layer's weights are coarsened, one
/// bit at a time, or a warning names the layer and the loss. Needs all exponents; changes those of weights and biases.
/// Throws UserError when there is no batch to look at.
PassReport fit_accumulators(Graph& graph, const Dataset& dataset, const AccumulatorOptions& options);

}  // namespace espq
