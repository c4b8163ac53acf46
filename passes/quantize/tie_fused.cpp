#include "passes/quantize/tie_fused.h"

#include "core/graph/match.h"
#include "core/ops/operator.h"
#include "passes/quantize/slots.h"

namespace espq {
namespace {

class Tier {
 public:
  Tier(Graph& graph, const Quirks& quirks) : graph_(graph), quirks_(quirks), slots_(graph) {}

  PassReport run() {
    for (Operation* operation : graph_.operations())
      if (definition_of(*operation).has_weights()) tie_activation(*operation, /*same_width_only=*/true);
    for (Operation* operation : graph_.operations()) tie_passive(*operation);
    for (Operation* operation : graph_.operations()) tie_activation(*operation, /*same_width_only=*/false);
    return report_;
  }

 private:
  void tie_activation(Operation& front, bool same_width_only) {
    Operation* activation = sole_reader(front);
    if (!activation || !front.quantized() || !activation->quantized()) return;
    if (!definition_of(*activation).quantization.fused_activation) return;
    if (graph_.upstream(*activation).size() != 1) return;
    if (!quirks_.tie_through_graph_outputs)
      for (const Variable* output : front.outputs())
        if (graph_.is_output(output)) return;
    if (!same_width(front, *activation)) {
      if (same_width_only && !front.output_quant()[0].is_float()) return;
      if (!same_width_only) promote(front, *activation);
    }
    const SlotQuant &result = front.output_quant()[0], &behind = activation->output_quant()[0];
    if (result.bits != behind.bits && !quirks_.scales_ignore_width) return;
    SlotQuant& owner = activation->edit_output_quant(0);
    const bool fresh = graph_.scales().root(front.output_quant()[0].scale) != graph_.scales().root(owner.scale);
    slots_.carry(front.edit_output_quant(0), owner);
    slots_.carry(activation->edit_input_quant(0), owner);
    report_.count("activation shares the scale of the operation in front", fresh);
  }

  /// The chip runs the pair as one operator, so the narrower Relu takes the width of its producer.
  void promote(const Operation& front, Operation& activation) {
    SlotQuant& output = activation.edit_output_quant(0);
    if (!definition_of(front).chip.fused_relu || activation.type() != "Relu") return;
    if (output.bits >= front.output_quant()[0].bits) return;
    activation.set_width(front.width()->without_weights());
    output.bits = front.output_quant()[0].bits;
    if (!quirks_.scales_ignore_width) activation.edit_input_quant(0).bits = output.bits;
    report_.count("Relu raised to the width of the operation in front");
  }

  void tie_passive(Operation& operation) {
    if (!operation.quantized() || !definition_of(operation).quantization.passive) return;
    const Operation* producer = operation.input(0) ? operation.input(0)->producer() : nullptr;
    if (!producer || !same_width(operation, *producer)) return;
    for (size_t i = 0; i < operation.output_quant().size(); ++i)
      slots_.carry(operation.edit_output_quant(i), operation.edit_input_quant(0));
    report_.count("operation that only moves values");
  }

  Graph& graph_;
  const Quirks& quirks_;
  SlotTable slots_;
  PassReport report_{"tie_fused"};
};

int first_slot(const Operation& operation, const Variable* variable) {
  const auto& inputs = operation.inputs();
  return static_cast<int>(std::find(inputs.begin(), inputs.end(), variable) - inputs.begin());
}

}  // namespace

PassReport tie_fused(Graph& graph, const Quirks& quirks) { return Tier(graph, quirks).run(); }

PassReport tie_consumers(Graph& graph, const Quirks& quirks) {
  PassReport report{"tie_consumers"};
  SlotTable slots(graph);
  for (Variable* variable : graph.variables()) {
    Operation* producer = variable->producer();
    if (!producer || !producer->quantized()) continue;
    SlotQuant& source = producer->edit_output_quant(variable->producer_slot());
    if (source.is_float()) continue;
    for (const Use& use : variable->uses()) {
      if (!use.operation->quantized() || !same_width(*producer, *use.operation)) continue;
      SlotQuant& operand = use.operation->edit_input_quant(use.slot);
      if (quirks.tie_first_operand_only && use.slot != first_slot(*use.operation, variable)) continue;
      if (operand.state != SlotState::Pending || !operand.same_scheme(source)) continue;
      slots.carry(operand, source);
      report.count("operand carries its producer's grid");
    }
  }
  return report;
}

}  // namespace espq
