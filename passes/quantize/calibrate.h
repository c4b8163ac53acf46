#pragma once
#include "core/data/dataset.h"
#include "core/graph/graph.h"
#include "passes/quantize/observer.h"
#include "passes/report.h"

namespace espq {

struct CalibrationOptions {
  /// Batches to run; the data set is repeated when it has fewer. 0 = every batch once.
  int64_t steps = 0;
  /// Activations kept between the two phases of kl and mse, in MiB. Batches that do not fit are run a second time;
  /// the numbers are the same.
  int64_t cache_mebibytes = 256;
};

template <class Fields>
void describe(Fields& fields, CalibrationOptions& options) {
  fields("steps", options.steps);
  fields("cache_mebibytes", options.cache_mebibytes);
}

/// Runs the float graph (with rounded weights) on the data and gives every waiting activation slot its exponent.
/// Phase 1 serves minmax and percentile and finds the range for kl and mse, which collect histograms in phase 2;
/// slots that phase 1 already settled round their tensors in phase 2.
/// Throws UserError naming operation and variable on NaN or infinite activations, or when there is no data.
PassReport calibrate(Graph& graph, const Dataset& dataset, const CalibrationOptions& options,
                     const ObserverOptions& observer_options);

}  // namespace espq
