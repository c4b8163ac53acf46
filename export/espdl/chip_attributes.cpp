#include "export/espdl/chip_attributes.h"

#include <limits>

#include "core/ops/operator.h"
#include "core/support/error.h"

namespace espq {
namespace {

// Names in a file. The chip library reads the first four; the others say how a table was made.
constexpr std::string_view kKernels = "quant_type", kActivation = "activation", kTable = "lut",
                           kGates = "gate_exponent", kFunction = "original_op_type", kTableStep = "int16_lut_step";
constexpr std::string_view kRelu = "Relu", kNoActivation = "Linear";

constexpr std::pair<std::string_view, Width> kKernelNames[] = {
    {"F32", Width::Float}, {"S8", Width::Int8}, {"S16", Width::Int16}, {"W8A16", Width::Int16Weights8}};

std::string kernels_name(Width kernels) {
  for (const auto& [name, candidate] : kKernelNames)
    if (candidate == kernels) return std::string(name);
  internal_check(false, "kernels without a name");
  return {};
}

/// Removes one attribute from the attributes of a node and gives its value; nullopt when there is none.
template <class T>
std::optional<T> take(const Operation& operation, AttributeMap& attributes, std::string_view key) {
  const auto found = attributes.find(std::string(key));
  if (found == attributes.end()) return std::nullopt;
  const T* value = std::get_if<T>(&found->second);
  user_check(value, "{} '{}': attribute '{}' is not {}", operation.type(), operation.name(), key,
             std::is_same_v<T, std::string> ? "a string" : "an integer");
  T result = *value;
  attributes.erase(found);
  return result;
}

std::optional<int> take_int(const Operation& operation, AttributeMap& attributes, std::string_view key) {
  const auto value = take<int64_t>(operation, attributes, key);
  if (!value) return std::nullopt;
  user_check(*value == static_cast<int>(*value), "{} '{}': attribute '{}' is {}", operation.type(), operation.name(),
             key, *value);
  return static_cast<int>(*value);
}

}  // namespace

std::optional<Width> parse_kernels(std::string_view quant_type) {
  for (const auto& [name, kernels] : kKernelNames)
    if (name == quant_type) return kernels;
  return std::nullopt;
}

AttributeMap file_attributes(const Operation& operation) {
  AttributeMap result = explicit_attributes(operation);
  const auto add = [&](std::string_view key, Attribute value) { result.emplace(key, std::move(value)); };
  const ChipFacts& facts = operation.chip();
  if (facts.kernels) add(kKernels, kernels_name(*facts.kernels));
  if (facts.fused_relu) add(kActivation, std::string(*facts.fused_relu ? kRelu : kNoActivation));
  if (facts.table) add(kTable, facts.table->name());
  if (facts.gate_exponent) add(kGates, int64_t{*facts.gate_exponent});
  if (!facts.function.empty()) add(kFunction, facts.function);
  if (facts.table_step) add(kTableStep, int64_t{*facts.table_step});
  return result;
}

void set_file_attributes(Graph& graph, Operation& operation, AttributeMap attributes) {
  const OperatorDefinition& definition = definition_of(operation);
  const std::string where = fmt::format("{} '{}'", operation.type(), operation.name());
  ChipFacts& facts = operation.edit_chip();
  if (const auto name = take<std::string>(operation, attributes, kKernels)) {
    const auto kernels = parse_kernels(*name);
    user_check(kernels.has_value(), "{}: attribute '{}' names unknown kernels '{}'", where, kKernels, *name);
    facts.kernels = kernels;
    operation.set_width(kernels);
  }
  if (definition.chip.fused_relu) {
    if (const auto name = take<std::string>(operation, attributes, kActivation)) {
      user_check(*name == kRelu || *name == kNoActivation, "{}: fused activation '{}' is unknown", where, *name);
      facts.fused_relu = *name == kRelu;
    }
  }
  if (const auto name = take<std::string>(operation, attributes, kTable)) {
    facts.table = graph.find_variable(*name);
    user_check(facts.table && facts.table->is_parameter(), "{}: its look-up table '{}' is not in the file", where,
               *name);
  }
  if (definition.quantization.alignment == AlignmentClass::Recurrent)
    facts.gate_exponent = take_int(operation, attributes, kGates);
  facts.function = take<std::string>(operation, attributes, kFunction).value_or("");
  facts.table_step = take_int(operation, attributes, kTableStep);
  operation.set_attributes(std::move(attributes));
  normalize_attributes(operation);
}

}  // namespace espq
