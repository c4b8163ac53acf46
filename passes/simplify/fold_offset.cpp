#include "passes/simplify/fold_offset.h"

#include "core/graph/match.h"
#include "core/ops/linear.h"
#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

bool fold(Graph& graph, Operation& operation) {
  const auto slot = constant_operand(operation);
  if (!slot) return false;
  const auto linear = linear_producer(graph, operation, 1 - *slot);
  if (!linear || !linear->bias_slot()) return false;
  Operation& layer = linear->operation(graph);
  Variable* constant = operation.input(*slot);
  auto offset = output_vector(*linear, constant->value());
  auto bias = linear->bias();
  if (!offset || !bias || !at::isfinite(*offset).all().item<bool>()) return false;
  if (operation.type() == "Sub" && *slot == 1) offset = offset->neg();
  if (operation.type() == "Sub" && *slot == 0) {
    linear->set_weight(graph, linear->scaled_rows(at::full({linear->rows()}, -1.0, at::kDouble)));
    bias = bias->neg();
  }
  take_over_output(graph, layer, operation);
  const bool reuse = !linear->bias_variable() && constant->uses().empty() && !graph.is_output(constant);
  if (reuse) {  // the constant becomes the bias under its own name
    constant->set_value(offset->to(linear->weight().scalar_type()).contiguous());
    if (layer.inputs().size() > *linear->bias_slot())
      graph.set_input(layer, *linear->bias_slot(), constant);
    else
      graph.append_input(layer, constant);
    if (layer.has("beta")) layer.set_attribute("beta", 1.0F);
  } else {
    linear->set_bias(graph, *bias + *offset);
  }
  return true;
}

}  // namespace

PassReport fold_offset(Graph& graph) {
  PassReport report{"fold_offset"};
  for (Operation* operation : graph.operations()) {
    if ((operation->type() != "Add" && operation->type() != "Sub") || is_dead(graph, *operation)) continue;
    const std::string type = operation->type(), name = operation->name();
    if (fold(graph, *operation)) report.count(type + " of a constant folded into a bias", name);
  }
  return report;
}

}  // namespace espq
