#pragma once
#include "core/graph/graph.h"
#include "passes/quantize/observer.h"
#include "passes/report.h"

namespace espq {

/// Calibrates every constant that waits for it (weights, constant operands) on its own values. Biases and inner states
/// are left to settle. Throws UserError naming the operation when a constant is not finite.
PassReport quantize_parameters(Graph& graph, const ObserverTable& observers, const CalibrationOptions& options,
                               const Quirks& quirks = {});

}  // namespace espq
