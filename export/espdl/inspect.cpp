#include "export/espdl/inspect.h"

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/support/error.h"
#include "export/espdl/convert.h"

namespace espq {
namespace {

using Json = nlohmann::ordered_json;

/// Names in a file need not be valid UTF-8.
std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

Json shape_json(const EspdlValueInfo& value) {
  if (!value.shape) return nullptr;
  Json dims = Json::array();
  for (const EspdlDimension& dim : *value.shape)
    if (dim.kind == EspdlDimension::Kind::Value)
      dims.push_back(dim.value);
    else
      dims.push_back(dim.parameter.empty() ? "?" : dim.parameter);
  return dims;
}

Json value_json(const EspdlValueInfo& value) {
  return {{"name", value.name},
          {"type", element_name(value.type)},
          {"shape", shape_json(value)},
          {"exponents", value.exponents}};
}

Json tensor_json(const EspdlTensor& tensor) {
  constexpr std::string_view kPrefix = "layout ==> ";
  Json json{{"name", tensor.name},
            {"type", element_name(tensor.type)},
            {"shape", tensor.dims},
            {"exponents", tensor.exponents},
            {"bytes", tensor.raw ? tensor.bytes().size() : 0}};
  if (tensor.doc_string) {
    const bool layout = tensor.doc_string->starts_with(kPrefix);
    json["layout"] = layout ? tensor.doc_string->substr(kPrefix.size()) : *tensor.doc_string;
  }
  return json;
}

Json attribute_json(const EspdlAttribute& attribute) {
  return std::visit(
      [](const auto& value) -> Json {
        if constexpr (std::is_same_v<std::decay_t<decltype(value)>, EspdlTensor>)
          return tensor_json(value);
        else
          return value;
      },
      attribute.value);
}

/// An operand as the node sees it: a constant or a computed tensor.
Json operand_json(const EspdlModel& model, const std::string& name) {
  if (name.empty()) return nullptr;
  if (const EspdlTensor* tensor = model.find_initializer(name)) {
    Json json = tensor_json(*tensor);
    json["constant"] = true;
    return json;
  }
  const EspdlValueInfo* value = model.find_value_info(name);
  return value ? value_json(*value) : Json{{"name", name}};
}

Json node_json(const EspdlModel& model, const EspdlNode& node) {
  Json json{{"name", node.name}, {"type", node.op_type}};
  for (const auto& name : node.inputs) json["inputs"].push_back(operand_json(model, name));
  for (const auto& name : node.outputs) json["outputs"].push_back(operand_json(model, name));
  json["attributes"] = Json::object();
  for (const auto& attribute : node.attributes) json["attributes"][attribute.name] = attribute_json(attribute);
  return json;
}

std::string proven_target(const EspdlModel& model) {
  try {
    return std::string(infer_target(model).name);
  } catch (const UserError&) {
    return "";
  }
}

template <typename Items, typename Print>
Json list(const Items& items, Print print) {
  Json json = Json::array();
  for (const auto& item : items) json.push_back(print(item));
  return json;
}

std::set<std::string> table_names(const EspdlModel& model) {
  std::set<std::string> names;
  for (const EspdlNode& node : model.nodes)
    if (const EspdlAttribute* lut = node.find_attribute("lut"))
      if (const auto* name = std::get_if<std::string>(&lut->value)) names.insert(*name);
  return names;
}

Json totals_json(const EspdlModel& model) {
  std::map<std::string, int> operators, widths;
  for (const EspdlNode& node : model.nodes) {
    ++operators[node.op_type];
    const EspdlAttribute* type = node.find_attribute("quant_type");
    const auto* name = type ? std::get_if<std::string>(&type->value) : nullptr;
    ++widths[name ? *name : "none"];
  }
  const auto tables = table_names(model);
  size_t constant_bytes = 0, table_bytes = 0;
  for (const EspdlTensor& tensor : model.initializers)
    (tables.contains(tensor.name) ? table_bytes : constant_bytes) += tensor.raw ? tensor.raw->size() : 0;
  return {{"nodes", model.nodes.size()}, {"operators", operators},     {"quant_types", widths},
          {"tables", tables.size()},     {"table_bytes", table_bytes}, {"constant_bytes", constant_bytes}};
}

// ------------------------------------------------------------------------------------------------ text
std::string numbers_text(const Json& numbers) {
  std::vector<std::string> texts;
  for (const auto& number : numbers) texts.push_back(number.is_string() ? number.get<std::string>() : dump(number));
  return fmt::format("{}", fmt::join(texts, "x"));
}

/// One exponent, or the range of many.
std::string exponents_text(const Json& exponents) {
  if (exponents.empty()) return "?";
  const auto values = exponents.get<std::vector<int64_t>>();
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  if (values.size() == 1) return std::to_string(values[0]);
  return fmt::format("{}..{} per channel", *low, *high);
}

std::string operand_text(const Json& operand) {
  if (operand.is_null()) return "(omitted)";
  if (!operand.contains("type")) return operand["name"].get<std::string>() + " (unknown)";
  const std::string shape = operand["shape"].is_null() ? "?" : numbers_text(operand["shape"]);
  const std::string layout = operand.value("layout", "UNK");
  return fmt::format("{} {}[{}] @{}{}", operand["name"].get<std::string>(), operand["type"].get<std::string>(), shape,
                     exponents_text(operand["exponents"]), layout == "UNK" ? "" : " " + layout);
}

std::string counts_text(const Json& counts) {
  std::vector<std::string> texts;
  for (const auto& [name, count] : counts.items()) texts.push_back(fmt::format("{} {}", name, count.get<int>()));
  return fmt::format("{}", fmt::join(texts, ", "));
}

void append_operands(std::string& text, const char* title, const Json& operands) {
  for (const auto& operand : operands) text += fmt::format("{}{}\n", title, operand_text(operand));
}

void append_node(std::string& text, const Json& node) {
  text += fmt::format("{} {}\n", node["type"].get<std::string>(), node["name"].get<std::string>());
  if (node.contains("inputs")) append_operands(text, "    in  ", node["inputs"]);
  if (node.contains("outputs")) append_operands(text, "    out ", node["outputs"]);
  std::vector<std::string> attributes;
  for (const auto& [key, value] : node["attributes"].items())
    attributes.push_back(fmt::format("{}={}", key, value.is_string() ? value.get<std::string>() : dump(value)));
  if (!attributes.empty()) text += fmt::format("    {}\n", fmt::join(attributes, " "));
}

}  // namespace

Json inspect_json(const EspdlModel& model, const Container& container, const ContainerEntry& entry) {
  Json json{{"format", container.format}};
  if (!container.version.empty()) json["package_version"] = container.version;
  if (container.entries.size() > 1 || !entry.name.empty()) {
    json["models"] = list(container.entries, [](const ContainerEntry& item) { return item.name; });
    json["model"] = entry.name;
  }
  json["encrypted"] = is_encrypted(entry.bytes);
  json["bytes"] = entry.bytes.size();
  json["graph"] = model.graph_name;
  json["ir_version"] = model.ir_version;
  json["model_version"] = model.model_version;
  json["metadata"] = Json::object();
  for (const auto& [key, value] : model.metadata) json["metadata"][key] = value;
  const std::string target = proven_target(model);
  json["target"] = target.empty() ? Json() : Json(target);
  json["totals"] = totals_json(model);
  json["inputs"] = list(model.inputs, value_json);
  json["outputs"] = list(model.outputs, value_json);
  json["nodes"] = list(model.nodes, [&](const EspdlNode& node) { return node_json(model, node); });
  const auto tables = table_names(model);
  json["tables"] = Json::array();
  for (const EspdlTensor& tensor : model.initializers)
    if (tables.contains(tensor.name)) json["tables"].push_back(tensor_json(tensor));
  json["test_inputs"] = list(model.test_inputs, tensor_json);
  json["test_outputs"] = list(model.test_outputs, tensor_json);
  return Json::parse(dump(json));  // with names that can be printed
}

std::string inspect_text(const EspdlModel& model, const Container& container, const ContainerEntry& entry) {
  const Json json = inspect_json(model, container, entry);
  const Json& totals = json["totals"];
  std::string text = fmt::format("{} {}, {} bytes{}\n", container.format, entry.name, entry.bytes.size(),
                                 json["encrypted"].get<bool>() ? ", encrypted" : "");
  if (json.contains("models") && container.entries.size() > 1)
    text += fmt::format("models       {}\n", dump(json["models"]));
  text += fmt::format("graph        {} (ir_version {}, model_version {})\n", model.graph_name, model.ir_version,
                      model.model_version);
  text +=
      fmt::format("target       {}\n", json["target"].is_null() ? "not recorded" : json["target"].get<std::string>());
  for (const auto& [key, value] : model.metadata) text += fmt::format("metadata     {} = {}\n", key, value);
  text += fmt::format("nodes        {} ({})\n", totals["nodes"].get<size_t>(), counts_text(totals["operators"]));
  text += fmt::format("arithmetic   {}\n", counts_text(totals["quant_types"]));
  text += fmt::format("constants    {} bytes\ntables       {} ({} bytes)\n", totals["constant_bytes"].get<size_t>(),
                      totals["tables"].get<size_t>(), totals["table_bytes"].get<size_t>());
  append_operands(text, "input        ", json["inputs"]);
  append_operands(text, "output       ", json["outputs"]);
  append_operands(text, "test input   ", json["test_inputs"]);
  append_operands(text, "test output  ", json["test_outputs"]);
  text += '\n';
  for (const auto& node : json["nodes"]) append_node(text, node);
  return text;
}

}  // namespace espq
