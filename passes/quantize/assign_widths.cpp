#include "passes/quantize/assign_widths.h"

#include "core/ops/operator.h"
#include "core/support/error.h"
#include "passes/quantize/slots.h"

namespace espq {
namespace {

/// A float function that the chip can only read from a table.
bool needs_table(const Operation& operation) {
  return definition_of(operation).only_as_table() && operation.input(0) && is_floating(*operation.input(0)) &&
         is_floating(*operation.output());
}

}  // namespace

Width default_width(const Operation& operation, int bits, const Quirks& quirks) {
  const OperatorDefinition& definition = definition_of(operation);
  const bool fits = !quirks.widths_ignore_kernels, table = fits && needs_table(operation);
  if (!definition.quantization.quantizable && !table) return Width::Float;
  const bool eight_only = !table && definition.chip.kernels.int8 && !definition.chip.kernels.int16;
  return bits == 8 || (fits && eight_only) ? Width::Int8 : Width::Int16;
}

bool becomes_table(const Operation& operation) { return needs_table(operation) && !operation.width()->is_float(); }

PassReport assign_widths(Graph& graph, const WidthOptions& options, const Layers& layers, const Quirks& quirks) {
  user_check(options.bits == 8 || options.bits == 16, "widths.bits: {} is not a width of the chips; use 8 or 16",
             options.bits);
  const LayerTable table(graph, layers);
  PassReport report{"assign_widths"};
  for (Operation* operation : graph.operations()) {
    Width width = operation->width().value_or(default_width(*operation, options.bits, quirks));
    if (const auto own = table.of(*operation).width)
      width = takes_8bit_weights(*operation) ? *own : own->without_weights();
    const std::string what = fmt::format("{} operation", enum_name(width));
    if (operation->width() == width) {
      report.note(what);
      continue;
    }
    operation->set_width(width);
    report.count(what);
  }
  return report;
}

}  // namespace espq
