#include "passes/quantize/assign_widths.h"

#include <map>

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

Width default_width(const Operation& operation, int bits, const Quirks& quirks) {
  const OperatorDefinition& definition = definition_of(operation);
  const bool fits = !quirks.widths_ignore_kernels, table = fits && needs_table(operation);
  if (!definition.quantization.quantizable && !table) return Width::Float;
  const bool eight_only = !table && definition.chip.kernels.int8 && !definition.chip.kernels.int16;
  return bits == 8 || (fits && eight_only) ? Width::Int8 : Width::Int16;
}

/// All that the chip lacks in one message: one change of the network should be enough.
void check_kernels(const Graph& graph, RuntimeLevel level) {
  std::map<std::string, std::vector<std::string>> missing;
  for (const Operation* operation : graph.operations()) {
    const bool table = needs_table(*operation) && !operation->width()->is_float();
    if (table || has_kernel(definition_of(*operation), level, *operation->width())) continue;
    missing[fmt::format("{} ({})", operation->type(), enum_name(*operation->width()))].push_back(operation->name());
  }
  if (missing.empty()) return;
  std::string list;
  for (const auto& [type, names] : missing)
    list += fmt::format("{}{}: '{}'", list.empty() ? "" : "; ", type, fmt::join(names, "', '"));
  user_error(
      "{} has no kernel for {}. Change the network, or allow it (widths.check_kernels false, "
      "--allow-missing-kernels) when your application registers such kernels",
      library_name(level), list);
}

}  // namespace

PassReport assign_widths(Graph& graph, const WidthOptions& options, const Layers& layers, const Quirks& quirks,
                         RuntimeLevel level) {
  user_check(options.bits == 8 || options.bits == 16, "widths.bits: {} is not a width of the chips; use 8 or 16",
             options.bits);
  const LayerTable table(graph, layers);
  PassReport report{"assign_widths"};
  for (Operation* operation : graph.operations()) {
    if (const auto own = table.of(*operation).width)
      operation->set_width(takes_8bit_weights(*operation) ? *own : own->without_weights());
    else if (!operation->width())
      operation->set_width(default_width(*operation, options.bits, quirks));
    report.count(fmt::format("{} operation", enum_name(*operation->width())));
  }
  if (options.check_kernels) check_kernels(graph, level);
  return report;
}

}  // namespace espq
