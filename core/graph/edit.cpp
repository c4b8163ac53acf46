#include "core/graph/edit.h"

#include <ATen/ATen.h>

namespace espq {

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

}  // namespace espq
