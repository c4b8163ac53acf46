#pragma once
#include <functional>
#include <string>
#include <vector>

#include "core/data/dataset.h"
#include "core/graph/graph.h"
#include "core/quant/target.h"
#include "passes/quantize/align_scales.h"
#include "passes/quantize/assign_widths.h"
#include "passes/quantize/calibrate.h"
#include "passes/quantize/create_slots.h"
#include "passes/quantize/derive_exponents.h"
#include "passes/quantize/fit_accumulators.h"
#include "passes/quantize/observer.h"
#include "passes/quantize/retype_tables.h"
#include "passes/quantize/tie_fused.h"
#include "passes/report.h"
#include "passes/simplify/simplify.h"

namespace espq {

/// What happens to the float graph before it is quantized.
struct FloatPassOptions {
  bool simplify = true;
  SimplifyOptions rewrites;
  /// Afterwards what esp-ppq 1.3.12 does between reading and quantizing, in its order and with its names.
  bool format_like_incumbent = false;
  /// ConvTranspose as InsertZeros and Conv: the chip library has no transposed convolution.
  bool decompose_conv_transpose = true;
};

template <class Fields>
void describe(Fields& fields, FloatPassOptions& options) {
  fields("simplify", options.simplify);
  fields("rewrites", options.rewrites);
  fields("format_like_incumbent", options.format_like_incumbent);
  fields("decompose_conv_transpose", options.decompose_conv_transpose);
}

/// Everything that decides the result of quantize(); a recipe file (export/conversion/recipe.h) holds these fields and
/// the exporter's. The defaults are espq's own recipe; recipes/esp-ppq-1.3.12.json reproduces that package.
/// docs/quantization_scheme.md explains every option.
struct QuantizeOptions {
  std::string target = "esp32p4";
  FloatPassOptions float_passes;
  WidthOptions widths;
  ObserverChoice observers;
  ObserverOptions observer_rules;
  CalibrationOptions calibration;
  TieOptions ties;
  AlignOptions alignment;
  DeriveOptions derive;
  AccumulatorOptions accumulators;
  TableOptions tables;
};

template <class Fields>
void describe(Fields& fields, QuantizeOptions& options) {
  fields("target", options.target);
  fields("float_passes", options.float_passes);
  fields("widths", options.widths);
  fields("observers", options.observers);
  fields("observer_rules", options.observer_rules);
  fields("calibration", options.calibration);
  fields("ties", options.ties);
  fields("alignment", options.alignment);
  fields("derive", options.derive);
  fields("accumulators", options.accumulators);
  fields("tables", options.tables);
}

struct QuantizeResult {
  std::vector<PassReport> passes;  ///< in the order in which they ran
};

/// Turns a float graph into a quantized graph for one chip: simplify, calibrate, align. lower() makes the chip graph
/// of it. Throws UserError on bad options, data that do not fit the inputs, or values that cannot be quantized.
QuantizeResult quantize(Graph& graph, const Dataset& dataset, const QuantizeOptions& options);

/// The part of quantize() after the float passes: from a simplified graph with known shapes.
QuantizeResult quantize_simplified(Graph& graph, const Dataset& dataset, const QuantizeOptions& options);

}  // namespace espq
