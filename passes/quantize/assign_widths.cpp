#include "passes/quantize/assign_widths.h"

#include "core/ops/operator.h"
#include "core/support/error.h"

namespace espq {

const std::vector<std::pair<OperationWidth, std::string_view>> EnumNames<OperationWidth>::values = {
    {OperationWidth::Float, "float"}, {OperationWidth::Int8, "int8"}, {OperationWidth::Int16, "int16"}};

PassReport assign_widths(Graph& graph, const WidthOptions& options) {
  user_check(options.bits == 8 || options.bits == 16, "widths.bits: {} is not a width of the chips; use 8 or 16",
             options.bits);
  const auto main_width = options.bits == 8 ? OperationWidth::Int8 : OperationWidth::Int16;
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
    if (!operation->width)
      operation->width = definition_of(*operation).quantization.quantizable ? main_width : OperationWidth::Float;
    report.count(fmt::format("{} operation", enum_name(*operation->width)));
  }
  return report;
}

}  // namespace espq
