#include "passes/optimize/snapshot.h"

#include "core/support/error.h"

namespace espq {

Snapshot::Snapshot(const Graph& graph) : scales_(graph.scales()) {
  for (const Variable* variable : graph.variables())
    if (variable->is_parameter()) constants_.emplace(variable->name(), variable->value());
  for (const Operation* operation : graph.operations())
    if (operation->quantized())
      slots_.emplace(operation->name(), Slots{operation->input_quant(), operation->output_quant()});
}

void Snapshot::restore(Graph& graph) const {
  const uint64_t before = graph.revision();
  size_t constants = 0, quantized = 0;
  for (Variable* variable : graph.variables()) {
    if (!variable->is_parameter()) continue;
    const auto kept = constants_.find(variable->name());
    internal_check(kept != constants_.end(), "the snapshot has no constant '" + variable->name() + "'");
    ++constants;
    if (!variable->value().is_same(kept->second)) variable->set_value(kept->second);
  }
  for (Operation* operation : graph.operations()) {
    if (!operation->quantized()) continue;
    const auto kept = slots_.find(operation->name());
    internal_check(kept != slots_.end(), "the snapshot has no operation '" + operation->name() + "'");
    ++quantized;
    operation->set_quant(kept->second.inputs, kept->second.outputs);
  }
  internal_check(constants == constants_.size() && quantized == slots_.size(),
                 "the snapshot holds what the graph no longer has");
  graph.scales() = scales_;
  // The scales count their changes themselves and were set back with them: what was computed meanwhile is stale.
  do graph.touch();
  while (graph.revision() <= before);
}

}  // namespace espq
