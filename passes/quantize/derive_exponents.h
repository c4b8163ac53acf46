#pragma once
#include "core/graph/graph.h"
#include "core/support/json_fields.h"
#include "passes/report.h"

namespace espq {

struct DeriveOptions {
  /// Raise the weight exponent of a channel until its bias fits the accumulator and its output shift is at most 31
  /// (near-dead channels would otherwise saturate or shift by more than the chip can). false: esp-ppq 1.3.12, where
  /// such a bias saturates and a positive one wraps to the most negative value.
  bool fit_bias = true;
  /// Raise the output exponent where it is finer than the product of input and weight: the chip cannot shift left.
  bool fit_shift = true;
  /// Whether the file shows the grid of Clip bounds and of Pad values.
  bool export_clip_bounds = true;
  bool export_pad_value = true;
};

template <class Fields>
void describe(Fields& fields, DeriveOptions& options) {
  fields("fit_bias", options.fit_bias);
  fields("fit_shift", options.fit_shift);
  fields("export_clip_bounds", options.export_clip_bounds);
  fields("export_pad_value", options.export_pad_value);
}

/// Exponents that follow from others: bias = input + weight, inner states of recurrent cells -9, Clip bounds and Pad
/// values as operand 0. Run again whenever scales change. Biases are flattened to one dimension.
/// Throws UserError naming the operation when a bias is not constant or its size is wrong.
PassReport derive_exponents(Graph& graph, const DeriveOptions& options);

}  // namespace espq
