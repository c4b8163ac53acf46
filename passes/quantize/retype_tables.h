#pragma once
#include <string>
#include <vector>

#include "core/graph/graph.h"
#include "passes/quirks.h"
#include "passes/report.h"

namespace espq {

struct TableOptions {
  /// Distance of the sampling points of 16-bit tables, a power of two; a smaller one is more exact and a larger table.
  int step = 32;
  /// Operator types to turn into tables; empty = what the operators' rows recommend.
  std::vector<std::string> types = {};
};

template <class Fields>
void describe(Fields& fields, TableOptions& options) {
  fields("step", options.step);
  fields("types", options.types);
}

/// Sixteen-bit functions of one tensor become look-up tables: LUT (ChipFacts::function and table_step), so that
/// simulation and file both use the table. `main_bits`: width of the run. Throws UserError when the step is not a power
/// of two.
PassReport retype_tables(Graph& graph, int main_bits, const TableOptions& options, const Quirks& quirks = {});

/// The same for functions, of any width, for which the chip library has no kernel: it can only read them from a table.
PassReport retype_functions_without_kernel(Graph& graph, const TableOptions& options, const Quirks& quirks = {});

}  // namespace espq
