#include "passes/quantize/assign_widths.h"

#include <map>

#include "core/ops/operator.h"
#include "core/support/error.h"
#include "passes/quantize/slots.h"

namespace espq {

const std::vector<std::pair<OperationWidth, std::string_view>> EnumNames<OperationWidth>::values = {
    {OperationWidth::Float, "float"}, {OperationWidth::Int8, "int8"}, {OperationWidth::Int16, "int16"}};

namespace {

/// A float function that the chip can only read from a table.
bool needs_table(const Operation& operation) {
  return definition_of(operation).only_as_table() && operation.input(0) && is_floating(*operation.input(0));
}

OperationWidth default_width(const Operation& operation, const WidthOptions& options) {
  const OperatorDefinition& definition = definition_of(operation);
  const bool table = options.fit_to_chip && needs_table(operation);
  if (!definition.quantization.quantizable && !table) return OperationWidth::Float;
  const bool eight_only = !table && definition.chip.registered && definition.chip.int8 && !definition.chip.int16;
  return options.bits == 8 || (options.fit_to_chip && eight_only) ? OperationWidth::Int8 : OperationWidth::Int16;
}

/// All that the chip lacks in one message: one change of the network should be enough.
void check_kernels(const Graph& graph) {
  std::map<std::string, std::vector<std::string>> missing;
  for (const Operation* operation : graph.operations()) {
    const bool table = needs_table(*operation) && *operation->width() != OperationWidth::Float;
    if (table || definition_of(*operation).chip.has_kernel(*operation->width())) continue;
    missing[fmt::format("{} ({})", operation->type(), enum_name(*operation->width()))].push_back(operation->name());
  }
  if (missing.empty()) return;
  std::string list;
  for (const auto& [type, names] : missing)
    list += fmt::format("{}{}: '{}'", list.empty() ? "" : "; ", type, fmt::join(names, "', '"));
  user_error(
      "chip library 3.3.9 has no kernel for {}. Change the network, or allow it (widths.check_kernels false, "
      "--allow-missing-kernels) when your application registers such kernels",
      list);
}

}  // namespace

PassReport assign_widths(Graph& graph, const WidthOptions& options) {
  user_check(options.bits == 8 || options.bits == 16, "widths.bits: {} is not a width of the chips; use 8 or 16",
             options.bits);
  for (const auto& [name, width] : options.per_operation) {
    Operation* operation = graph.find_operation(name);
    if (!operation) {
      std::vector<std::string> names;
      for (const Operation* candidate : graph.operations()) names.push_back(candidate->name());
      user_error("widths.per_operation: the simplified network has no operation '{}'; did you mean '{}'?", name,
                 nearest_name(name, names));
    }
    operation->set_width(width);
  }
  PassReport report{"assign_widths"};
  for (Operation* operation : graph.operations()) {
    if (!operation->width()) operation->set_width(default_width(*operation, options));
    report.count(fmt::format("{} operation", enum_name(*operation->width())));
  }
  if (options.check_kernels) check_kernels(graph);
  return report;
}

}  // namespace espq
