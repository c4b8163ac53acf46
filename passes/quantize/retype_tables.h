#pragma once
#include "core/graph/graph.h"
#include "core/support/json_fields.h"
#include "passes/report.h"

namespace espq {

struct TableOptions {
  /// Sixteen-bit one-in one-out functions become look-up tables; off keeps them as they are.
  bool enabled = true;
  /// Distance of the table's sampling points, a power of two; larger tables are more exact.
  int step = 32;
  /// Operator types to turn into tables; empty = what the operator table recommends.
  std::vector<std::string> types = {};
  /// Also inside runs whose main width is 8 bits (esp-ppq 1.3.12 does it in 16-bit runs only).
  bool in_int8_runs = true;
  /// Quantized functions for which the chip library has no kernel, whatever their width (esp-ppq 1.3.12 keeps them).
  bool without_kernel = true;
};

template <class Fields>
void describe(Fields& fields, TableOptions& options) {
  fields("enabled", options.enabled);
  fields("step", options.step);
  fields("types", options.types);
  fields("in_int8_runs", options.in_int8_runs);
  fields("without_kernel", options.without_kernel);
}

/// Retypes 16-bit functions to LUT (attributes original_op_type, int16_lut_step), so that simulation and file both use
/// the table, and functions of any width for which the chip library has no kernel. Throws UserError when the step is
/// not a power of two.
PassReport retype_tables(Graph& graph, int main_bits, const TableOptions& options);

}  // namespace espq
