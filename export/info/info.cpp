#include "export/info/info.h"

#include <algorithm>

#include "core/support/error.h"
#include "export/info/numpy_repr.h"

namespace espq {
namespace {

constexpr size_t kLongestString = 64;  // longer attribute texts are cut

std::string shape_suffix(const std::vector<std::string>& dims) {
  return dims.empty() ? ", scalar" : fmt::format(", {}", fmt::join(dims, "x"));
}

std::string declaration(const EspdlTensor& tensor) {
  std::vector<std::string> dims;
  for (const int64_t dim : tensor.dims) dims.push_back(std::to_string(dim));
  return fmt::format("%{}[{}{}]", tensor.name, element_name(tensor.type), shape_suffix(dims));
}

std::string declaration(const EspdlValueInfo& value) {
  std::string shape;
  if (value.shape) {
    std::vector<std::string> dims;
    for (const auto& dim : *value.shape) {
      const bool known = dim.kind == EspdlDimension::Kind::Value;
      dims.push_back(known ? std::to_string(dim.value) : dim.parameter.empty() ? "?" : dim.parameter);
    }
    shape = shape_suffix(dims);
  }
  return fmt::format("%{}[{}{}], exponents: [{}]", value.name, element_name(value.type), shape,
                     fmt::join(value.exponents, ", "));
}

std::string string_value(const std::string& text) {
  if (text.size() < kLongestString) return python_repr(text);
  return fmt::format("{}...<+len={}>", python_repr(text.substr(0, kLongestString)), text.size() - kLongestString);
}

std::string number(float value) { return fmt::format("{:.15g}", static_cast<double>(value)); }

struct AttributeText {
  std::string operator()(int64_t value) const { return std::to_string(value); }
  std::string operator()(float value) const { return number(value); }
  std::string operator()(const std::string& value) const { return string_value(value); }
  std::string operator()(const EspdlTensor&) const { return "<Tensor>"; }
  std::string operator()(const std::vector<int64_t>& values) const {
    return fmt::format("[{}]", fmt::join(values, ", "));
  }
  std::string operator()(const std::vector<float>& values) const { return list(values, number); }
  std::string operator()(const std::vector<std::string>& values) const { return list(values, string_value); }

  template <typename T, typename Print>
  static std::string list(const std::vector<T>& values, Print print) {
    std::vector<std::string> texts;
    texts.reserve(values.size());
    for (const auto& value : values) texts.push_back(print(value));
    return fmt::format("[{}]", fmt::join(texts, ", "));
  }
};

std::string names(const std::vector<std::string>& values) {
  std::vector<std::string> texts;
  texts.reserve(values.size());
  for (const auto& value : values) texts.push_back("%" + value);
  return fmt::format("{}", fmt::join(texts, ", "));
}

std::string node_line(const EspdlNode& node) {
  std::vector<std::string> attributes;
  for (const auto& attribute : node.attributes)
    attributes.push_back(fmt::format("{} = {}", attribute.name, std::visit(AttributeText{}, attribute.value)));
  std::sort(attributes.begin(), attributes.end());
  const std::string list = attributes.empty() ? "" : fmt::format("[{}]", fmt::join(attributes, ", "));
  return fmt::format("  {} = {}{}({})", names(node.outputs), node.op_type, list, names(node.inputs));
}

struct TypedText {
  std::string operator()(std::monostate) const { return ""; }
  template <typename T>
  std::string operator()(const std::vector<T>& values) const {
    return fmt::format("value: [{}]", fmt::join(values, ", "));
  }
};

std::string tensor_value(const EspdlTensor& tensor) {
  std::string text = fmt::format("%{}, shape: [{}], exponents: [{}], ", tensor.name, fmt::join(tensor.dims, ", "),
                                 fmt::join(tensor.exponents, ", "));
  if (tensor.doc_string) text += fmt::format("docString: b{}, ", python_repr(*tensor.doc_string));
  if (tensor.raw) return text + "\nvalue: " + numpy_repr(tensor.type, *tensor.raw);
  return text + std::visit(TypedText{}, tensor.typed);
}

std::vector<std::string> graph_lines(const EspdlModel& model) {
  std::vector<std::string> lines{fmt::format("\ngraph {} (", model.graph_name)};
  for (const auto& input : model.inputs) lines.push_back("  " + declaration(input));
  if (!model.initializers.empty()) {
    lines.push_back(") initializers (");
    for (const auto& tensor : model.initializers) lines.push_back("  " + declaration(tensor));
  }
  lines.push_back(") {");
  for (const auto& node : model.nodes) lines.push_back(node_line(node));
  std::vector<std::string> outputs;
  for (const auto& output : model.outputs) outputs.push_back(output.name);
  lines.push_back("  return " + names(outputs));
  lines.push_back("}");
  return lines;
}

}  // namespace

std::string info_text(const EspdlModel& model) {
  std::string head = "model properties:\nmetadata_props:";
  for (const auto& [key, value] : model.metadata) head += fmt::format("\n{}: {}", key, value);
  std::vector<std::string> lines{head + "\n"};
  const auto append = [&](const std::string& title, const auto& items, auto print) {
    lines.push_back("\n\n" + title + ":");
    for (const auto& item : items) lines.push_back(print(item));
  };
  for (auto& line : graph_lines(model)) lines.push_back(std::move(line));
  append("initializers value", model.initializers, tensor_value);
  append("values info", model.value_infos, [](const EspdlValueInfo& value) { return declaration(value); });
  append("test inputs value", model.test_inputs, tensor_value);
  append("test outputs value", model.test_outputs, tensor_value);
  return fmt::format("{}", fmt::join(lines, "\n"));
}

}  // namespace espq
