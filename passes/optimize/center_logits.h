#pragma once
#include <cstdint>

#include "core/data/dataset.h"
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

struct CenterLogitsOptions {
  int64_t batches = 32;  ///< of the data, to see the logits
};

template <class Fields>
void describe(Fields& fields, CenterLogitsOptions& options) {
  fields("batches", options.batches);
}

/// A Softmax or LogSoftmax does not see a number that is added to all its operands. Where the bias of the layer in
/// front can bring the middle of their range to zero, and they then have a finer exponent, it does.
/// Takes a float graph with widths (assign_widths). The float outputs stay, to float rounding; otherwise all is undone.
/// Throws UserError on options that make no sense.
PassReport center_logits(Graph& graph, const Dataset& data, const CenterLogitsOptions& options);

}  // namespace espq
