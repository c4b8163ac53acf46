#include "passes/simplify/fold_scale.h"

#include "core/graph/match.h"
#include "core/ops/linear.h"
#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

/// float64 factors per channel of the linear operation that `vector_of` looks at.
template <typename VectorOf>
std::optional<at::Tensor> factors(const Operation& operation, VectorOf&& vector_of) {
  const auto slot = constant_operand(operation);
  if (!slot || (operation.type() == "Div" && *slot == 0)) return std::nullopt;
  auto vector = vector_of(operation.input(*slot)->value());
  if (!vector) return std::nullopt;
  if (operation.type() == "Div") vector = vector->reciprocal();
  if (!at::isfinite(*vector).all().template item<bool>()) return std::nullopt;
  return vector;
}

/// onnxsim folds into Conv and ConvTranspose.
bool may_change(const LinearOperation& linear, const Quirks& quirks) {
  return !quirks.fold_scale_like_onnxsim || linear.weight().dim() > 2;
}

bool fold_into_producer(Graph& graph, Operation& operation, const Quirks& quirks) {
  const auto slot = constant_operand(operation);
  if (!slot) return false;
  const auto linear = linear_producer(graph, operation, 1 - *slot);
  if (!linear || !may_change(*linear, quirks)) return false;
  const auto factor = factors(operation, [&](const at::Tensor& constant) { return output_vector(*linear, constant); });
  const auto bias = linear->bias();
  if (!factor || !bias) return false;
  linear->set_weight(graph, linear->scaled_rows(*factor));
  if (linear->bias_variable()) linear->set_bias(graph, *bias * *factor);
  take_over_output(graph, linear->operation(graph), operation);
  return true;
}

bool fold_into_consumer(Graph& graph, Operation& operation, const Quirks& quirks) {
  const auto slot = constant_operand(operation);
  if (!slot || !can_bypass(graph, operation)) return false;
  Operation* consumer = sole_consumer(graph, *operation.output());
  if (!consumer || consumer->input(0) != operation.output()) return false;
  const auto linear = linear_operation(*consumer);
  if (!linear || !may_change(*linear, quirks)) return false;
  const auto factor = factors(operation, [&](const at::Tensor& constant) { return input_vector(*linear, constant); });
  if (!factor) return false;
  linear->set_weight(graph, linear->scaled_columns(*factor));
  graph.set_input(*consumer, 0, operation.input(1 - *slot));
  return true;
}

}  // namespace

PassReport fold_scale(Graph& graph, const FoldScaleOptions& options, const Quirks& quirks) {
  PassReport report{"fold_scale"};
  for (Operation* operation : graph.operations()) {
    if ((operation->type() != "Mul" && operation->type() != "Div") || is_dead(graph, *operation)) continue;
    if (operation->type() == "Div" && quirks.fold_scale_like_onnxsim) continue;
    const std::string type = operation->type(), name = operation->name();
    if (fold_into_producer(graph, *operation, quirks))
      report.count(type + " by a constant folded into the weights in front", name);
    else if (options.into_consumer && fold_into_consumer(graph, *operation, quirks))
      report.count(type + " by a constant folded into the weights behind", name);
  }
  return report;
}

}  // namespace espq
