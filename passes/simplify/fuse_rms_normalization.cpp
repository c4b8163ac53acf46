#include "passes/simplify/fuse_rms_normalization.h"

#include "core/graph/match.h"
#include "passes/simplify/normalization_pattern.h"
#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

struct Match {
  Variable* value = nullptr;
  Operation* reduction = nullptr;
  int64_t axis = 0;
  double epsilon = 0;
};

/// root = sqrt(mean(x^2) [+ epsilon])
std::optional<Match> match_root(const Graph& graph, Operation* root) {
  if (!root) return std::nullopt;
  Match found;
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
std::optional<Match> match_quotient(const Graph& graph, Operation& normalized) {
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
    const auto found = match_root(graph, root);
    if (found && found->value == normalized.input(1 - slot)) return found;
  }
  return std::nullopt;
}

/// Last is the Mul by the gain.
bool fuse(Graph& graph, Operation& last, const FuseRmsNormalizationOptions& options) {
  const auto slot = last.type() == "Mul" ? constant_operand(last) : std::nullopt;
  if (!slot) return false;
  Variable* normalized = last.input(1 - *slot);
  if (!normalized->producer() || sole_consumer(graph, *normalized) != &last) return false;
  const auto found = match_quotient(graph, *normalized->producer());
  if (!found || !found->value->shape()) return false;
  const auto gain = normalized_parameter(*last.input(*slot), *found->value, found->axis);
  if (!gain) return false;
  int64_t axis = found->axis - static_cast<int64_t>(found->value->shape()->size());
  double epsilon = found->epsilon;
  if (options.like_incumbent) {
    const auto given = integer_constant(found->reduction->input(1));
    if (given && (*given)[0] >= 0) axis = found->axis;
    if (epsilon == 0) epsilon = 1e-5;
  }
  Variable* parameter = last.input(*slot);
  const bool reuse = parameter->uses().size() == 1 && parameter->shape() == gain->sizes().vec();
  if (!reuse) parameter = &graph.add_parameter(free_variable_name(graph, last.name() + "_scale"), *gain);
  become(graph, last, "RMSNormalization", {found->value, parameter},
         {{"axis", axis}, {"epsilon", static_cast<float>(epsilon)}, {"stash_type", int64_t{1}}});
  if (options.like_incumbent) {
    graph.rename(last, free_operation_name(graph, last.name() + "_rmsnorm"));
    graph.move_to_end(last);
  }
  return true;
}

}  // namespace

PassReport fuse_rms_normalization(Graph& graph, const FuseRmsNormalizationOptions& options) {
  PassReport report{"fuse_rms_normalization"};
  for (Operation* operation : graph.operations())
    if (!is_dead(graph, *operation) && fuse(graph, *operation, options))
      report.count("arithmetic became RMSNormalization");
  return report;
}

}  // namespace espq
