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

void set_constant(Graph& graph, Operation& operation, size_t slot, const at::Tensor& value, const std::string& name) {
  Variable* old = operation.input(slot);
  if (old && old->is_parameter() && old->uses().size() == 1 && !graph.is_output(old)) {
    old->set_value(value.contiguous());
    return;
  }
  Variable& fresh = graph.add_parameter(free_variable_name(graph, name), value.contiguous());
  if (slot < operation.inputs().size())
    graph.set_input(operation, slot, &fresh);
  else
    graph.append_input(operation, &fresh);
}

std::string free_variable_name(const Graph& graph, const std::string& name) {
  std::string free = name;
  for (int n = 1; graph.find_variable(free); ++n) free = fmt::format("{}_{}", name, n);
  return free;
}

std::string free_operation_name(const Graph& graph, const std::string& name) {
  std::string free = name;
  for (int n = 1; graph.find_operation(free); ++n) free = fmt::format("{}_{}", name, n);
  return free;
}

Variable& add_value(Graph& graph, const Variable& like, std::optional<Shape> shape, const std::string& name) {
  Variable& value = graph.add_variable(name.empty() ? name : free_variable_name(graph, name));
  value.set_dtype(like.dtype());
  value.set_shape(std::move(shape));
  return value;
}

at::Tensor integer_tensor(const std::vector<int64_t>& values) { return at::tensor(values, at::kLong); }

}  // namespace espq
