#pragma once
#include "core/data/dataset.h"
#include "core/graph/graph.h"
#include "passes/quantize/observer.h"
#include "passes/report.h"

namespace espq {

/// Runs the float graph (with rounded weights) on the data and gives every waiting activation slot its exponent.
/// Phase 1 serves minmax and percentile and finds the range for kl and mse, which collect histograms in phase 2;
/// slots that phase 1 already settled round their tensors in phase 2.
/// Warns of inputs that are zero, constant or tiny throughout, and of tensors that are zero on all the data.
/// Throws UserError naming operation and variable on NaN or infinite activations, or when there is no data.
PassReport calibrate(Graph& graph, const Dataset& dataset, const ObserverTable& observers,
                     const CalibrationOptions& options, const Quirks& quirks = {});

}  // namespace espq
