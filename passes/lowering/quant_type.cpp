#include <algorithm>

#include "core/ops/operator.h"
#include "passes/lowering/slots.h"
#include "passes/lowering/steps.h"

namespace espq::lowering {
namespace {

bool all_float(const std::vector<SlotQuant>& slots) {
  return std::all_of(slots.begin(), slots.end(), [](const SlotQuant& slot) { return slot.is_float(); });
}

/// 8-bit weights under 16-bit activations.
bool mixes_widths(const Operation& operation) {
  return operation.quantized() && definition_of(operation).chip.fused_relu && is_constant(operation.input(1)) &&
         operation.input_quant().at(1).bits == 8 && operation.int_attribute("group", 1) == 1;
}

std::string quant_type(const Operation& operation, const LowerOptions& options) {
  const OperationWidth width = operation.width().value_or(OperationWidth::Float);
  if (width == OperationWidth::Float) return "F32";
  if (operation.quantized() && all_float(operation.input_quant()) && all_float(operation.output_quant())) return "F32";
  if (width == OperationWidth::Int8) return "S8";
  return options.runtime_level == RuntimeLevel::Newer && mixes_widths(operation) ? "W8A16" : "S16";
}

}  // namespace

void set_quant_types(Graph& graph, const LowerOptions& options) {
  for (Operation* operation : graph.operations())
    operation->set_attribute("quant_type", quant_type(*operation, options));
}

}  // namespace espq::lowering
