#include <ATen/core/Tensor.h>
#include <c10/util/StringUtil.h>

#include "core/graph/graph.h"
#include "core/support/error.h"

namespace espq {
namespace {

template <typename T>
std::string joined(const std::vector<T>& values, std::string_view separator = ", ") {
  return fmt::format("{}", fmt::join(values, separator));
}

struct AttributeText {
  std::string operator()(int64_t value) const { return std::to_string(value); }
  std::string operator()(float value) const { return fmt::format("{}", value); }
  std::string operator()(const std::string& value) const { return "'" + value + "'"; }
  template <typename T>
  std::string operator()(const std::vector<T>& values) const {
    return "[" + joined(values) + "]";
  }
  std::string operator()(const at::Tensor& value) const {
    return fmt::format("<{} [{}]>", c10::toString(value.scalar_type()), joined(value.sizes().vec()));
  }
};

std::string variable_text(const Variable* variable) {
  if (!variable) return "-";
  std::string text = "%" + variable->name();
  if (variable->shape()) text += "[" + joined(*variable->shape(), "x") + "]";
  if (variable->storage())
    text +=
        fmt::format(":{}@{}", c10::toString(variable->storage()->dtype), joined(variable->storage()->exponents, ","));
  return text;
}

std::string variables_text(std::span<const Variable* const> variables) {
  std::string text;
  for (const Variable* variable : variables) text += (text.empty() ? "" : ", ") + variable_text(variable);
  return text;
}

}  // namespace

std::string to_text(const Graph& graph) {
  std::string text = fmt::format("graph '{}' ({})\n", graph.name, variables_text(graph.inputs()));
  for (const Operation* operation : graph.topological_order()) {
    std::string attributes;
    for (const auto& [key, value] : operation->attributes())
      attributes += (attributes.empty() ? "" : ", ") + key + "=" + std::visit(AttributeText{}, value);
    text += fmt::format("  {} = {} '{}' ({}) {{{}}}\n", variables_text(operation->outputs()), operation->type(),
                        operation->name(), variables_text(operation->inputs()), attributes);
  }
  return text + fmt::format("return {}\n", variables_text(graph.outputs()));
}

}  // namespace espq
