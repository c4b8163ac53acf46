#include "passes/simplify/fold_offset.h"

#include "core/graph/match.h"
#include "passes/simplify/linear.h"
#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

bool incumbent_would(const LinearOperation& linear, const Operation& operation, const at::Tensor& constant) {
  if (operation.type() != "Add" || linear.operation->input(2)) return false;
  if (linear.operation->type() == "Gemm") return true;
  return constant.dim() == linear.rank && constant.size(1) != 1;
}

bool fold(Graph& graph, Operation& operation, const FoldOffsetOptions& options) {
  const auto slot = constant_operand(operation);
  if (!slot) return false;
  const auto linear = linear_producer(graph, operation, 1 - *slot);
  if (!linear || !linear->takes_bias) return false;
  Variable* constant = operation.input(*slot);
  if (options.like_incumbent && !incumbent_would(*linear, operation, constant->value())) return false;
  auto offset = output_vector(*linear, constant->value());
  auto bias = linear->bias();
  if (!offset || !bias || !at::isfinite(*offset).all().item<bool>()) return false;
  if (operation.type() == "Sub" && *slot == 1) offset = offset->neg();
  if (operation.type() == "Sub" && *slot == 0) {
    set_weight(graph, *linear, linear->scaled_rows(at::full({linear->output_channels}, -1.0, at::kDouble)));
    bias = bias->neg();
  }
  if (options.like_incumbent && !graph.is_output(operation.output())) {
    Variable* sum = operation.output();
    graph.replace_uses(*sum, *linear->operation->output());
    graph.remove(operation);
    graph.remove(*sum);
  } else {
    take_over_output(graph, *linear->operation, operation);
  }
  const bool reuse =
      !options.like_incumbent && !linear->operation->input(2) && constant->uses().empty() && !graph.is_output(constant);
  if (reuse) {  // the constant becomes the bias under its own name
    constant->set_value(offset->to(linear->operation->input(1)->value().scalar_type()).contiguous());
    if (linear->operation->inputs().size() > 2)
      graph.set_input(*linear->operation, 2, constant);
    else
      graph.append_input(*linear->operation, constant);
    if (linear->operation->has("beta")) linear->operation->set_attribute("beta", 1.0F);
  } else {
    set_bias(graph, *linear, *bias + *offset);
  }
  return true;
}

}  // namespace

PassReport fold_offset(Graph& graph, const FoldOffsetOptions& options) {
  PassReport report{"fold_offset"};
  for (Operation* operation : graph.operations()) {
    if ((operation->type() != "Add" && operation->type() != "Sub") || is_dead(graph, *operation)) continue;
    const std::string type = operation->type();
    if (fold(graph, *operation, options)) report.count(type + " of a constant folded into a bias");
  }
  return report;
}

}  // namespace espq
