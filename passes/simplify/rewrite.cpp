#include "passes/simplify/rewrite.h"

#include "core/ops/operator.h"
#include "core/support/error.h"

namespace espq {

bool is_dead(const Graph& graph, const Operation& operation) {
  return std::all_of(operation.outputs().begin(), operation.outputs().end(), [&](const Variable* output) {
    return !output || (output->uses().empty() && !graph.is_output(output));
  });
}

bool can_bypass(const Graph& graph, const Operation& operation) {
  const Variable* source = operation.input(0);
  if (!source) return false;
  if (!graph.is_output(operation.output())) return true;
  return source->producer() && !graph.is_output(source);
}

void become(Graph& graph, Operation& operation, std::string type, const std::vector<Variable*>& inputs,
            AttributeMap attributes) {
  graph.truncate_inputs(operation, 0);
  operation.retype(std::move(type));
  operation.set_attributes(std::move(attributes));
  for (Variable* input : inputs) graph.append_input(operation, input);
  normalize_attributes(operation);
}

void take_over_output(Graph& graph, Operation& first, Operation& last) {
  Variable* interior = first.output();
  Variable* result = last.output();
  internal_check(interior->uses().size() == 1 && interior->uses()[0].operation == &last && !graph.is_output(interior),
                 "take_over_output: '" + interior->name() + "' has other readers");
  graph.remove(last);
  graph.set_output(first, 0, result);
  graph.remove(*interior);
}

void replace_by_constant(Graph& graph, Operation& operation, const at::Tensor& value) {
  Variable* output = operation.output();
  graph.remove(operation);
  output->set_value(value.contiguous());
}

at::Tensor integer_tensor(const std::vector<int64_t>& values) { return at::tensor(values, at::kLong); }

}  // namespace espq
