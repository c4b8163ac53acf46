#include <algorithm>

#include "core/ops/operator.h"
#include "core/support/error.h"
#include "passes/lowering/formats.h"
#include "passes/lowering/steps.h"

namespace espq::lowering {
namespace {

bool all_float(const std::vector<SlotQuant>& slots) {
  return std::all_of(slots.begin(), slots.end(), [](const SlotQuant& slot) { return slot.is_float(); });
}

Width kernels_of(const Operation& operation) {
  const bool floats =
      operation.quantized() && all_float(operation.input_quant()) && all_float(operation.output_quant());
  return floats ? Width::Float : operation.width().value_or(Width::Float);
}

}  // namespace

PassReport choose_kernels(Graph& graph, const LowerOptions& options) {
  PassReport report{"choose_kernels"};
  for (Operation* operation : graph.operations()) {
    const Width width = kernels_of(*operation);
    const auto refusal = refuses(*operation, {*graph.target(), options.runtime_level}, width);
    if (refusal && refusal->kind == Refusal::Kind::Unwritable)
      user_error("{} '{}': {}; {}", operation->type(), operation->name(), refusal->why, refusal->remedy);
    operation->edit_chip().kernels = width;
    report.count(fmt::format("{} kernel", enum_name(width)));
  }
  return report;
}

}  // namespace espq::lowering
