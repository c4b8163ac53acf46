#include "passes/simplify/merge_clamps.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/graph/match.h"
#include "passes/simplify/bounds.h"
#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

/// The clamp in front of `last`, whose value nothing else reads, together with it.
std::optional<Bounds> with_producer(const Graph& graph, const Bounds& last) {
  Operation* producer = last.source->producer();
  if (!producer || !sole_consumer(graph, *last.source)) return std::nullopt;
  const auto first = bounds_of(*producer);
  return first ? joined(*first, last) : std::nullopt;
}

void clamp(Graph& graph, Operation& operation, const Bounds& bounds) {
  if (bounds.low == 0 && bounds.high == Bounds::kInfinity) {
    become(graph, operation, "Relu", {bounds.source});
    return;
  }
  become(graph, operation, "Clip", {bounds.source});
  const auto add_bound = [&](double value, const char* suffix) {
    const at::Tensor constant = at::scalar_tensor(value, at::TensorOptions(bounds.source->dtype()));
    graph.append_input(operation,
                       std::isinf(value)
                           ? nullptr
                           : &graph.add_parameter(free_variable_name(graph, operation.name() + suffix), constant));
  };
  add_bound(bounds.low, "_low");
  if (!std::isinf(bounds.high)) add_bound(bounds.high, "_high");
}

bool is_free(const Bounds& bounds) { return std::isinf(bounds.low) && std::isinf(bounds.high); }

/// In its cheapest form already.
bool is_settled(const Operation& operation, const Bounds& bounds) {
  const bool relu = bounds.low == 0 && std::isinf(bounds.high);
  return operation.type() == (relu ? "Relu" : "Clip");
}

}  // namespace

PassReport merge_clamps(Graph& graph) {
  PassReport report{"merge_clamps"};
  for (Operation* operation : graph.topological_order()) {
    if (is_dead(graph, *operation)) continue;
    const auto bounds = bounds_of(*operation);
    if (!bounds || !bounds->source || !at::isFloatingType(operation->output()->dtype())) continue;
    const std::string name = operation->name(), type = operation->type();
    if (is_free(*bounds) && can_bypass(graph, *operation)) {
      graph.bypass(*operation);
      report.count(type + " without bounds removed", name);
    } else if (const auto both = with_producer(graph, *bounds)) {
      clamp(graph, *operation, *both);
      report.count(type + " joined with the one in front", name);
    } else if (!is_free(*bounds) && !is_settled(*operation, *bounds)) {
      clamp(graph, *operation, *bounds);
      report.count(type + " became " + operation->type(), name);
    }
  }
  return report;
}

}  // namespace espq
