#include "parity/format.h"

#include "core/exec/executor.h"
#include "core/graph/match.h"
#include "core/ops/linear.h"
#include "core/ops/operator.h"
#include "passes/run.h"
#include "passes/simplify/fold_batch_normalization.h"
#include "passes/simplify/fuse_lp_normalization.h"
#include "passes/simplify/fuse_rms_normalization.h"
#include "passes/simplify/fuse_swish.h"
#include "passes/simplify/remove_dead_code.h"
#include "passes/simplify/rewrite.h"
#include "passes/simplify/separate_parameters.h"

namespace espq {
namespace {

/// An operation that the package makes anew: another name, and the last in order.
void remake(Graph& graph, Operation& operation, const std::string& name) {
  graph.rename(operation, free_operation_name(graph, name));
  graph.move_to_end(operation);
}

bool takes_offset(const LinearOperation& linear, const at::Tensor& constant) {
  if (linear.bias_variable()) return false;
  return linear.operation().type() == "Gemm" || (constant.dim() == linear.rank() && constant.size(1) != 1);
}

bool fold_add(Graph& graph, Operation& add) {
  const auto slot = constant_operand(add);
  const auto linear = slot ? linear_producer(graph, add, 1 - *slot) : std::nullopt;
  if (!linear || !linear->bias_slot() || !takes_offset(*linear, add.input(*slot)->value())) return false;
  const auto offset = output_vector(*linear, add.input(*slot)->value());
  const auto bias = linear->bias();
  if (!offset || !bias || !at::isfinite(*offset).all().item<bool>()) return false;
  if (graph.is_output(add.output())) {
    take_over_output(graph, linear->operation(graph), add);
  } else {
    Variable* sum = add.output();
    graph.replace_uses(*sum, *linear->operation(graph).output());
    graph.remove(add);
    graph.remove(*sum);
  }
  linear->set_bias(graph, *bias + *offset);
  return true;
}

PassReport fold_adds(Graph& graph) {
  PassReport report{"fold_offset"};
  for (Operation* operation : graph.operations())
    if (operation->type() == "Add" && !is_dead(graph, *operation) && fold_add(graph, *operation))
      report.count("Add of a constant folded into a bias");
  return report;
}

void name_parameter(Graph& graph, Operation& operation, size_t slot, const char* suffix) {
  Variable* parameter = operation.input(slot);
  const std::string name = operation.name() + suffix;
  if (parameter->name() != name) graph.rename(*parameter, free_variable_name(graph, name));
}

PassReport fold_normalizations(Graph& graph, bool replace_isolated) {
  PassReport report{"fold_batch_normalization"};
  for (Operation* operation : graph.operations()) {
    const auto foldable = foldable_normalization(graph, *operation);
    std::string change =
        fold_batch_normalization(graph, *operation, {.replace_isolated = replace_isolated, .arithmetic = at::kFloat});
    if (change.empty()) continue;
    report.count(std::move(change));
    if (!foldable) continue;
    Operation& linear = foldable->linear.operation(graph);
    name_parameter(graph, linear, foldable->linear.weight_slot(), "_weight");
    name_parameter(graph, linear, *foldable->linear.bias_slot(), "_bias");
    graph.move_to_end(linear);
  }
  return report;
}

PassReport fuse_swishes(Graph& graph) {
  PassReport report{"fuse_swish"};
  for (Operation* operation : graph.operations()) {
    Operation* sigmoid = is_dead(graph, *operation) ? nullptr : swish_sigmoid(graph, *operation);
    if (!sigmoid) continue;
    become(graph, *operation, "Swish", {sigmoid->input(0)});
    const Operation* producer = operation->input(0)->producer();
    const std::string name = (producer ? producer->name() : sigmoid->name()) + "/Swish";
    remake(graph, *operation, graph.find_operation(name) ? sigmoid->name() + "/Swish" : name);
    report.count("Sigmoid and Mul became Swish");
  }
  return report;
}

/// The axis is counted from the end only where the file does it.
PassReport fuse_rms_normalizations(Graph& graph) {
  PassReport report{"fuse_rms_normalization"};
  for (Operation* operation : graph.operations()) {
    const auto found = is_dead(graph, *operation) ? std::nullopt : rms_normalization(graph, *operation);
    if (!found) continue;
    const auto given = integer_constant(found->reduction->input(1));
    const bool from_front = given && given->front() >= 0;
    const int64_t axis = found->axis - (from_front ? 0 : static_cast<int64_t>(found->value->shape()->size()));
    become_rms_normalization(graph, *operation, *found, axis, found->epsilon == 0 ? 1e-5 : found->epsilon);
    remake(graph, *operation, operation->name() + "_rmsnorm");
    report.count("arithmetic became RMSNormalization");
  }
  return report;
}

PassReport fuse_lp_normalizations(Graph& graph) {
  PassReport report{"fuse_lp_normalization"};
  for (Operation* operation : graph.operations()) {
    if (is_dead(graph, *operation) || !fuse_lp_normalization(graph, *operation)) continue;
    remake(graph, *operation, operation->name() + "_lpnorm");
    report.count("arithmetic became LpNormalization");
  }
  return report;
}

PassReport remove_identities(Graph& graph) {
  PassReport report{"remove_identities"};
  for (Operation* operation : graph.operations()) {
    if (operation->type() != "Identity" || !can_bypass(graph, *operation)) continue;
    graph.bypass(*operation);
    report.count("Identity removed");
  }
  return report;
}

}  // namespace

Report format_like_incumbent(Graph& graph) {
  Report report;
  infer_shapes(graph, zero_inputs(graph));
  const auto run = [&](auto&& pass) { report.merge(run_pass(graph, pass)); };
  run(separate_parameters);
  run(fold_adds);
  run([](Graph& g) { return fold_normalizations(g, /*replace_isolated=*/false); });
  run([](Graph& g) { return fold_normalizations(g, /*replace_isolated=*/true); });
  run(fuse_swishes);
  run(remove_dead_code);
  run(fuse_rms_normalizations);
  run(fuse_lp_normalizations);
  run(remove_identities);
  run(remove_dead_code);
  verify(graph);
  return report;
}

}  // namespace espq
