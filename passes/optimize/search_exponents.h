#pragma once
#include <cstdint>

#include "core/data/dataset.h"
#include "core/graph/graph.h"
#include "passes/quirks.h"
#include "passes/report.h"

namespace espq {

struct SearchExponentsOptions {
  int64_t batches = 8;  ///< of the data that decide, at most
  int64_t sweeps = 1;   ///< over all tensors, at most
  double gain = 0.005;  ///< the noise of the outputs has to fall by this share with each change
};

template <class Fields>
void describe(Fields& fields, SearchExponentsOptions& options) {
  fields("batches", options.batches);
  fields("sweeps", options.sweeps);
  fields("gain", options.gain);
}

/// Moves exponents of a calibrated graph, one tensor after the other from the front to the back, to where the outputs
/// of the network come nearest to those of `teacher`, the network before passes changed its weights: a calibration
/// looks at a tensor by itself and does not know what the layers behind make of its errors. With a tensor all move that
/// share its exponent; exponents per channel stay. Undone unless the error of the outputs falls on data that were held
/// out, too. Throws UserError on options that make no sense.
PassReport search_exponents(Graph& quantized, const Graph& teacher, const Dataset& data,
                            const SearchExponentsOptions& options, const Quirks& quirks = {});

}  // namespace espq
