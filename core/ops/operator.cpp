#include "core/ops/operator.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/ops/lookup_table.h"
#include "core/quant/fake_quantize.h"
#include "core/support/error.h"

namespace espq {

// ------------------------------------------------------------------------------------------------ registry
namespace {

const OperandSpec& spec_at(const OperatorDefinition& definition, const std::vector<OperandSpec>& specs, size_t slot) {
  internal_check(!specs.empty() && (slot < specs.size() || specs.back().variadic),
                 std::string(definition.name) + " has no operand or output " + std::to_string(slot));
  return specs[std::min(slot, specs.size() - 1)];
}

}  // namespace

const OperandSpec& OperatorDefinition::input_spec(size_t slot) const { return spec_at(*this, inputs, slot); }
const OperandSpec& OperatorDefinition::output_spec(size_t slot) const { return spec_at(*this, outputs, slot); }

std::optional<size_t> OperatorDefinition::input_slot(OperandRole role) const {
  for (size_t slot = 0; slot < inputs.size(); ++slot)
    if (inputs[slot].role == role) return slot;
  return std::nullopt;
}

Registry::Registry(std::vector<OperatorDefinition> definitions) : definitions_(std::move(definitions)) {
  for (size_t i = 0; i < definitions_.size(); ++i) {
    const bool fresh = index_.emplace(definitions_[i].name, i).second;
    internal_check(fresh, "operator " + std::string(definitions_[i].name) + " is registered twice");
  }
}

const OperatorDefinition* Registry::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &definitions_[found->second];
}

const OperatorDefinition& definition_of(const Operation& operation) {
  const OperatorDefinition* definition = operators().find(operation.type());
  user_check(definition, "operation '{}': operator '{}' is not supported ('espq ops' lists those that are)",
             operation.name(), operation.type());
  return *definition;
}

// ------------------------------------------------------------------------------------------------ attributes
namespace {

using Type = AttributeSpec::Type;

const AttributeSpec* find_spec(const OperatorDefinition& definition, std::string_view key) {
  for (const AttributeSpec& spec : definition.attributes)
    if (spec.name == key) return &spec;
  return nullptr;
}

bool has_type(const Attribute& value, Type type) {
  switch (type) {
    case Type::Int:
      return std::holds_alternative<int64_t>(value);
    case Type::Float:
      return std::holds_alternative<float>(value);
    case Type::String:
      return std::holds_alternative<std::string>(value);
    case Type::Ints:
      return std::holds_alternative<std::vector<int64_t>>(value);
    case Type::Floats:
      return std::holds_alternative<std::vector<float>>(value);
    case Type::Strings:
      return std::holds_alternative<std::vector<std::string>>(value);
    case Type::Tensor:
      return std::holds_alternative<at::Tensor>(value);
  }
  return false;
}

std::string_view type_name(Type type) {
  static constexpr std::string_view names[] = {
      "an integer", "a float", "a string", "a list of integers", "a list of floats", "a list of strings", "a tensor"};
  return names[static_cast<int>(type)];
}

bool equal(const Attribute& a, const Attribute& b) {
  if (a.index() != b.index()) return false;
  if (const at::Tensor* tensor = std::get_if<at::Tensor>(&a)) return at::equal(*tensor, std::get<at::Tensor>(b));
  return std::visit(
      [&](const auto& value) {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, at::Tensor>) {
          return false;
        } else {
          return value == std::get<T>(b);
        }
      },
      a);
}

}  // namespace

void check_attributes(const Operation& operation) {
  const OperatorDefinition& definition = tabulated_definition(operation);
  for (const auto& [key, value] : operation.attributes()) {
    const AttributeSpec* spec = find_spec(definition, key);
    user_check(spec, "operation '{}' ({}): unknown attribute '{}'", operation.name(), operation.type(), key);
    user_check(has_type(value, spec->type), "operation '{}' ({}): attribute '{}' is not {}", operation.name(),
               operation.type(), key, type_name(spec->type));
  }
  for (const AttributeSpec& spec : definition.attributes)
    user_check(!spec.required || operation.has(spec.name), "operation '{}' ({}): attribute '{}' is missing",
               operation.name(), operation.type(), spec.name);
}

void normalize_attributes(Operation& operation) {
  const OperatorDefinition& definition = tabulated_definition(operation);
  AttributeMap attributes = operation.attributes();
  std::vector<std::string> implied = operation.implied_attributes();
  bool changed = false;
  for (auto& [key, value] : attributes) {
    const AttributeSpec* spec = find_spec(definition, key);
    const int64_t* integer = std::get_if<int64_t>(&value);
    if (!integer || !spec || spec->type != Type::Float) continue;
    value = static_cast<float>(*integer);
    changed = true;
  }
  for (const AttributeSpec& spec : definition.attributes) {
    if (!spec.fallback || spec.required || !attributes.emplace(spec.name, *spec.fallback).second) continue;
    implied.emplace_back(spec.name);
    changed = true;
  }
  if (changed) operation.set_attributes(std::move(attributes), std::move(implied));
  check_attributes(operation);
}

AttributeMap explicit_attributes(const Operation& operation) {
  AttributeMap result = operation.attributes();
  const OperatorDefinition& definition = tabulated_definition(operation);
  for (const std::string& key : operation.implied_attributes()) {
    const auto found = result.find(key);
    const AttributeSpec* spec = find_spec(definition, key);
    if (found == result.end() || !spec || !spec->fallback) continue;
    if (equal(found->second, *spec->fallback)) result.erase(found);
  }
  return result;
}

// ------------------------------------------------------------------------------------------------ exact by `forward`
BoardKernel board_on_codes(const BoardContext& context) {
  const OperatorDefinition& definition = definition_of(context.operation);
  return [&operation = context.operation, forward = definition.forward](const Tensors& inputs) {
    return forward({.operation = operation, .chip = true, .lowered = true}, inputs);
  };
}

BoardKernel board_on_values(const BoardContext& context) {
  const OperatorDefinition& definition = definition_of(context.operation);
  return [&operation = context.operation, forward = definition.forward, input_grids = context.inputs,
          output_grids = context.outputs, rounding = context.target.rounding](Tensors values) {
    for (size_t slot = 0; slot < values.size(); ++slot)
      if (values[slot].defined() && input_grids[slot].quantized())
        values[slot] = dequantize(values[slot], {input_grids[slot].exponent()}, -1);
    Tensors results = forward({.operation = operation, .chip = true, .lowered = true}, values);
    for (size_t slot = 0; slot < output_grids.size(); ++slot)
      if (output_grids[slot].quantized() && results[slot].defined())
        results[slot] =
            quantize_to_codes(results[slot], {output_grids[slot].exponent()}, -1, output_grids[slot].bits, rounding);
    return results;
  };
}

}  // namespace espq
