#include "onnx_frontend/draft.h"

#include <ATen/core/grad_mode.h>

#include "core/support/error.h"

namespace espq::onnx_frontend {

void SampleRun::advance() {
  const at::NoGradGuard no_gradients;
  for (const Operation* operation : graph_.topological_order()) {
    if (operation->outputs().empty() || values_.count(operation->output())) continue;
    Tensors inputs;
    bool ready = true;
    for (const Variable* input : operation->inputs()) {
      at::Tensor value;
      if (input && input->is_parameter()) {
        value = input->value();
      } else if (input && graph_.is_input(input)) {
        value = at::zeros(*input->shape(), input->dtype());
      } else if (input) {
        const auto found = values_.find(input);
        ready = ready && found != values_.end();
        if (ready) value = found->second;
      }
      inputs.push_back(std::move(value));
    }
    if (!ready) continue;
    const Tensors outputs = definition_of(*operation).forward({.operation = *operation}, inputs);
    for (size_t slot = 0; slot < outputs.size() && slot < operation->outputs().size(); ++slot)
      if (operation->output(slot)) values_[operation->output(slot)] = outputs[slot];
  }
}

const at::Tensor& SampleRun::value(const Variable& variable, const std::string& reader) {
  if (variable.is_parameter()) return values_[&variable] = variable.value();
  if (graph_.is_input(&variable)) return values_[&variable] = at::zeros(*variable.shape(), variable.dtype());
  if (!values_.count(&variable)) advance();
  const auto found = values_.find(&variable);
  user_check(found != values_.end(), "{}: the shape of its operand '{}' cannot be computed (nodes out of order?)",
             reader, variable.name());
  return found->second;
}

void Draft::set_input(size_t slot, Variable* variable) {
  if (inputs.size() <= slot) inputs.resize(slot + 1, nullptr);
  inputs[slot] = variable;
}

std::string Draft::fresh_variable_name(const std::string& suffix) const {
  std::string candidate = name + "_" + suffix;
  for (int i = 2; graph_.find_variable(candidate); ++i) candidate = fmt::format("{}_{}_{}", name, suffix, i);
  return candidate;
}

Variable* Draft::parameter(const std::string& suffix, at::Tensor value) {
  return &graph_.add_parameter(fresh_variable_name(suffix), std::move(value));
}

Variable* Draft::parameter(const std::string& suffix, const Integers& value) {
  return parameter(suffix, at::tensor(value, at::kLong));
}

Variable* Draft::emit(const std::string& new_type, const std::string& suffix, std::vector<Variable*> new_inputs,
                      AttributeMap new_attributes) {
  return emit_many(new_type, suffix, std::move(new_inputs), std::move(new_attributes), 1)[0];
}

std::vector<Variable*> Draft::emit_many(const std::string& new_type, const std::string& suffix,
                                        std::vector<Variable*> new_inputs, AttributeMap new_attributes, size_t count) {
  std::string candidate = name + "_" + suffix;
  for (int i = 2; graph_.find_operation(candidate); ++i) candidate = fmt::format("{}_{}_{}", name, suffix, i);
  std::vector<Variable*> results;
  for (size_t i = 0; i < count; ++i) results.push_back(&graph_.add_variable(fresh_variable_name(suffix)));
  normalize_attributes(
      graph_.add_operation(new_type, candidate, std::move(new_inputs), results, std::move(new_attributes)));
  return results;
}

Shape Draft::shape_of(size_t slot) {
  const Variable* variable = input(slot);
  user_check(variable != nullptr, "{}: operand {} is missing", title(), slot);
  return variable->shape() ? *variable->shape() : sample_.value(*variable, title()).sizes().vec();
}

at::Tensor Draft::constant(size_t slot, std::string_view what) const {
  const Variable* variable = input(slot);
  if (!variable) return {};
  user_check(variable->is_parameter(), "{}: its {} ('{}') must be a constant", title(), what, variable->name());
  return variable->value();
}

Operation& Draft::finish() {
  while (!inputs.empty() && !inputs.back()) inputs.pop_back();
  while (!outputs.empty() && !outputs.back()) outputs.pop_back();
  user_check(!outputs.empty(), "{}: has no output", title());
  const OperatorDefinition* definition = operators().find(type);
  internal_check(definition != nullptr, title() + " has passed the check of operator types");
  const bool variadic = !definition->inputs.empty() && definition->inputs.back().variadic;
  user_check(variadic || inputs.size() <= definition->inputs.size(), "{}: has {} inputs, at most {} are possible",
             title(), inputs.size(), definition->inputs.size());
  for (size_t slot = 0; slot < definition->inputs.size(); ++slot)
    user_check(definition->inputs[slot].optional || input(slot), "{}: its input '{}' is missing", title(),
               definition->inputs[slot].name);
  for (Variable*& output : outputs)
    if (!output) output = &graph_.add_variable(fresh_variable_name("unused"));
  const bool many = !definition->outputs.empty() && definition->outputs.back().variadic;
  user_check(many || outputs.size() <= definition->outputs.size(),
             "{}: uses {} outputs, espq supports the first {} only", title(), outputs.size(),
             definition->outputs.size());
  Operation& operation = graph_.add_operation(type, name, inputs, outputs, attributes);
  normalize_attributes(operation);
  return operation;
}

}  // namespace espq::onnx_frontend
