#include "passes/legalize/replacement.h"

#include <ATen/ATen.h>

#include "core/graph/edit.h"
#include "core/ops/operator.h"
#include "passes/legalize/rewriter.h"
#include "passes/simplify/rewrite.h"

namespace espq {

Variable& Replacement::constant(std::string_view part, const at::Tensor& value) {
  return graph_.add_parameter(free_variable_name(graph_, fmt::format("{}_{}", origin_.name(), part)), value);
}

Variable& Replacement::constant(std::string_view part, const std::vector<int64_t>& values) {
  return constant(part, integer_tensor(values));
}

Variable& Replacement::number(std::string_view part, double value) {
  return constant(part, at::scalar_tensor(value, at::kFloat));
}

Variable& Replacement::add(std::string_view type, std::string_view part, const std::vector<Variable*>& inputs,
                           AttributeMap attributes) {
  const std::string wanted = fmt::format("{}_{}", origin_.name(), part);
  Variable& result = graph_.add_variable(free_variable_name(graph_, wanted));
  result.set_dtype(at::kFloat);
  Operation& made = graph_.add_operation(std::string(type), free_operation_name(graph_, wanted), inputs, {&result},
                                         std::move(attributes));
  normalize_attributes(made);
  result.set_shape(result_shapes(made).at(0));
  if (origins_) record_origin(*origins_, made.name(), origin_.name());
  return result;
}

void Replacement::finish(std::string_view type, const std::vector<Variable*>& inputs, AttributeMap attributes) {
  become(graph_, origin_, std::string(type), inputs, std::move(attributes));
  origin_.set_width(std::nullopt);
}

}  // namespace espq
