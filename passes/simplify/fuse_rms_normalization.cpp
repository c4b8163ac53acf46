#include "passes/simplify/fuse_rms_normalization.h"

#include "core/graph/match.h"
#include "passes/simplify/normalization_pattern.h"
#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

/// root = sqrt(mean(x^2) [+ epsilon])
std::optional<RmsNormalization> match_root(const Graph& graph, Operation* root) {
  if (!root) return std::nullopt;
  RmsNormalization found;
  Operation* reader = root;
  size_t slot = 0;
  if (Operation* sum = private_producer_of(graph, *root, 0, "Add")) {
    const auto constant = constant_operand(*sum);
    const auto epsilon = constant ? scalar_constant(sum->input(*constant)) : std::nullopt;
    if (!epsilon) return std::nullopt;
    found.epsilon = *epsilon;
    reader = sum;
    slot = 1 - *constant;
  }
  found.reduction = private_producer_of(graph, *reader, slot, "ReduceMean");
  if (!found.reduction) return std::nullopt;
  Operation* square = found.reduction->input(0)->producer();
  if (!square || sole_consumer(graph, *found.reduction->input(0)) != found.reduction) return std::nullopt;
  found.value = squared_value(*square);
  const auto axis = trailing_axis(*found.reduction);
  if (!found.value || !axis) return std::nullopt;
  found.axis = *axis;
  return found;
}

/// normalized = x / root, x * Reciprocal(root) or x * (1 / root)
std::optional<RmsNormalization> match_quotient(const Graph& graph, Operation& normalized) {
  if (normalized.inputs().size() != 2) return std::nullopt;
  if (normalized.type() == "Div") {
    const auto found = match_root(graph, private_producer_of(graph, normalized, 1, "Sqrt"));
    return found && found->value == normalized.input(0) ? found : std::nullopt;
  }
  if (normalized.type() != "Mul") return std::nullopt;
  for (size_t slot = 0; slot < 2; ++slot) {
    Operation* root = nullptr;
    if (Operation* reciprocal = private_producer_of(graph, normalized, slot, "Reciprocal"))
      root = private_producer_of(graph, *reciprocal, 0, "Sqrt");
    else if (Operation* quotient = private_producer_of(graph, normalized, slot, "Div"))
      root = is_scalar(quotient->input(0), 1, 0) ? private_producer_of(graph, *quotient, 1, "Sqrt") : nullptr;
    auto found = match_root(graph, root);
    if (found && found->value == normalized.input(1 - slot)) return found;
  }
  return std::nullopt;
}

}  // namespace

std::optional<RmsNormalization> rms_normalization(const Graph& graph, Operation& last) {
  const auto slot = last.type() == "Mul" ? constant_operand(last) : std::nullopt;
  if (!slot) return std::nullopt;
  Variable* normalized = last.input(1 - *slot);
  if (!normalized->producer() || sole_consumer(graph, *normalized) != &last) return std::nullopt;
  auto found = match_quotient(graph, *normalized->producer());
  if (!found || !found->value->shape()) return std::nullopt;
  const auto gain = normalized_parameter(*last.input(*slot), *found->value, found->axis);
  if (!gain) return std::nullopt;
  found->gain_slot = *slot;
  found->gain = *gain;
  return found;
}

void become_rms_normalization(Graph& graph, Operation& last, const RmsNormalization& found, int64_t axis,
                              double epsilon) {
  Variable* parameter = last.input(found.gain_slot);
  const bool reuse = parameter->uses().size() == 1 && parameter->shape() == found.gain.sizes().vec();
  if (!reuse) parameter = &graph.add_parameter(free_variable_name(graph, last.name() + "_scale"), found.gain);
  become(graph, last, "RMSNormalization", {found.value, parameter},
         {{"axis", axis}, {"epsilon", static_cast<float>(epsilon)}, {"stash_type", int64_t{1}}});
}

PassReport fuse_rms_normalization(Graph& graph) {
  PassReport report{"fuse_rms_normalization"};
  for (Operation* operation : graph.operations()) {
    const auto found = is_dead(graph, *operation) ? std::nullopt : rms_normalization(graph, *operation);
    if (!found) continue;
    const int64_t axis = found->axis - static_cast<int64_t>(found->value->shape()->size());
    become_rms_normalization(graph, *operation, *found, axis, found->epsilon);
    report.count("arithmetic became RMSNormalization", operation->name());
  }
  return report;
}

}  // namespace espq
