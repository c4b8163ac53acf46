#pragma once
#include "core/graph/graph.h"
#include "core/quant/target.h"
#include "passes/quantize/layers.h"
#include "passes/quantize/observer.h"
#include "passes/quirks.h"
#include "passes/report.h"

namespace espq {

/// Makes the quantization slots of every operation whose width is not Float, as the operator's row says, each
/// with a scale of its own: activations and constants wait for calibration, biases and inner states will be derived.
/// Needs the dtype of every variable (infer_shapes); the graph is Stage::Quantized from here on, for `target`.
/// `main_bits`: width of the run. `observers`: what looks at each slot that waits.
PassReport create_slots(Graph& graph, const Target& target, int main_bits, ObserverTable& observers,
                        const CalibrationOptions& options, const Layers& layers = {}, const Quirks& quirks = {});

}  // namespace espq
