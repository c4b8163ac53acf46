#include "passes/quantize/retype_tables.h"

#include "core/ops/operator.h"
#include "core/support/error.h"

namespace espq {

namespace {

void check(const TableOptions& options) {
  user_check(options.step > 0 && (options.step & (options.step - 1)) == 0,
             "tables.step: {} is not a power of two, which the chip needs", options.step);
}

bool is_wide(const Operation& operation) { return operation.input_quant()[0].bits == 16; }

bool is_wanted(const Operation& operation, const TableOptions& options) {
  if (!is_wide(operation)) return false;
  if (options.types.empty()) return definition_of(operation).quantization.table_int16;
  return std::find(options.types.begin(), options.types.end(), operation.type()) != options.types.end();
}

/// Turns every function of one tensor for which `wanted` holds into a table.
template <typename Wanted>
PassReport retype(Graph& graph, std::string pass, int step, Wanted&& wanted) {
  PassReport report{std::move(pass)};
  for (Operation* operation : graph.operations()) {
    if (!operation->quantized() || operation->inputs().size() != 1 || operation->outputs().size() != 1) continue;
    if (!wanted(*operation)) continue;
    operation->edit_chip().function = operation->type();
    if (is_wide(*operation)) operation->edit_chip().table_step = step;
    operation->retype("LUT");
    report.count(fmt::format("{} to table", operation->chip().function), operation->name());
  }
  return report;
}

}  // namespace

PassReport retype_tables(Graph& graph, int main_bits, const TableOptions& options, const Quirks& quirks) {
  check(options);
  const bool in_this_run = main_bits == 16 || !quirks.tables_by_main_width;
  return retype(graph, "retype_tables", options.step,
                [&](const Operation& operation) { return in_this_run && is_wanted(operation, options); });
}

PassReport retype_functions_without_kernel(Graph& graph, const TableOptions& options, const Quirks& quirks) {
  check(options);
  return retype(graph, "retype_functions_without_kernel", options.step, [&](const Operation& operation) {
    return !quirks.functions_without_kernel && definition_of(operation).only_as_table();
  });
}

}  // namespace espq
