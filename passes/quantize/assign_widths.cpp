#include "passes/quantize/assign_widths.h"

#include "core/ops/operator.h"
#include "core/support/error.h"

namespace espq {

const std::vector<std::pair<OperationWidth, std::string_view>> EnumNames<OperationWidth>::values = {
    {OperationWidth::Float, "float"}, {OperationWidth::Int8, "int8"}, {OperationWidth::Int16, "int16"}};

namespace {

OperationWidth default_width(const OperatorDefinition& definition, const WidthOptions& options) {
  if (!definition.quantization.quantizable) return OperationWidth::Float;
  const ChipSupport& chip = definition.chip;
  const bool eight_only = chip.registered && chip.int8 && !chip.int16;
  return options.bits == 8 || (options.fit_to_chip && eight_only) ? OperationWidth::Int8 : OperationWidth::Int16;
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
    operation->width = width;
  }
  PassReport report{"assign_widths"};
  for (Operation* operation : graph.operations()) {
    if (!operation->width) operation->width = default_width(definition_of(*operation), options);
    report.count(fmt::format("{} operation", enum_name(*operation->width)));
  }
  return report;
}

}  // namespace espq
