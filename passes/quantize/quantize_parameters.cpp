#include "passes/quantize/quantize_parameters.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/support/error.h"
#include "passes/quantize/slots.h"

namespace espq {
namespace {

std::vector<int> parameter_exponents(const at::Tensor& value, const SlotQuant& slot, const ObserverTable& observers,
                                     const CalibrationOptions& options, const Quirks& quirks) {
  if (slot.channel_axis >= 0) return exponents_of_channels(value, slot.channel_axis, slot.bits, range_rule(quirks));
  TensorObserver observer(observers.of(slot), slot.bits, options, quirks);
  observer.observe(value);
  if (observer.two_phase()) observer.observe_again(value);
  return {observer.exponent()};
}

}  // namespace

PassReport quantize_parameters(Graph& graph, const ObserverTable& observers, const CalibrationOptions& options,
                               const Quirks& quirks) {
  PassReport report{"quantize_parameters"};
  for_each_slot(graph, [&](Operation& operation, SlotQuant& slot, Variable* variable, int, bool is_output) {
    if (is_output || slot.state != SlotState::Pending || !variable->is_parameter()) return;
    user_check(at::isfinite(variable->value()).all().item<bool>(),
               "operation '{}': its constant '{}' holds NaN or infinite values and cannot be quantized; repair the "
               "model or leave the operation in float",
               operation.name(), variable->name());
    if (variable->value().numel() == 0) {
      slot.state = SlotState::Float;  // nothing to round
      return;
    }
    graph.scales().set_exponents(slot.scale, parameter_exponents(variable->value(), slot, observers, options, quirks));
    slot.state = SlotState::Quantizes;
    report.count("constant", variable->name());
  });
  return report;
}

}  // namespace espq
