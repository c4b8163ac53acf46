#include "export/onnx/onnx_export.h"

#include <unordered_set>

#include "core/exec/executor.h"
#include "core/support/error.h"
#include "onnx_file/tensor.h"

namespace espq {
namespace {

/// What the vocabulary has beyond ONNX's opset 18.
struct Difference {
  std::string_view type;
  int64_t since = 0;                ///< first opset that has it; 0: none
  std::string_view attribute = {};  ///< "": the operator itself; else only this attribute is new
  bool only_for_bool = false;       ///< only operands of type bool are new
  bool as_gated_sigmoid = false;    ///< written as x * Sigmoid(x)
};
const Difference kDifferences[] = {
    {"Attention", 23},
    {"AveragePool", 19, "dilations"},
    {"DequantizeLinear"},
    {"Gelu", 20},
    {"GroupNormalization", 21},
    {"InsertZeros"},
    {"LUT"},
    {"QuantizeLinear"},
    {"RMSNormalization", 23},
    {"ReduceMax", 20, "", true},
    {"ReduceMin", 20, "", true},
    {"RequantizeLinear"},
    {"ScalarFunction"},
    {"SpaceToDepth", 0, "mode"},
    {"StreamingCache"},
    {"Swish", 18, "", false, true},
};
constexpr int64_t kOpset = 18;

const Difference* find_difference(const Operation& operation) {
  const auto found = std::find_if(std::begin(kDifferences), std::end(kDifferences),
                                  [&](const Difference& entry) { return entry.type == operation.type(); });
  return found == std::end(kDifferences) ? nullptr : found;
}

/// What opset 18 means without the attribute.
bool is_usual(const Attribute& value) {
  if (const auto* mode = std::get_if<std::string>(&value)) return *mode == "DCR";
  const auto* list = std::get_if<std::vector<int64_t>>(&value);
  return list && std::all_of(list->begin(), list->end(), [](int64_t entry) { return entry == 1; });
}

/// True for an attribute that opset 18 lacks and that says nothing: dilations of one, blocks in ONNX's order.
bool says_nothing(const Difference* difference, const std::string& name, const Attribute& value) {
  return difference && difference->attribute == name && is_usual(value);
}

/// The lowest opset, from 18 on, that can say what the operation does.
int64_t needed_opset(const Operation& operation) {
  const Difference* difference = find_difference(operation);
  if (!difference) return kOpset;
  const Variable* operand = operation.input(0);
  if (difference->only_for_bool) return operand && operand->dtype() == at::kBool ? difference->since : kOpset;
  const auto found = operation.attributes().find(std::string(difference->attribute));
  const bool plain =
      !difference->attribute.empty() && (found == operation.attributes().end() || is_usual(found->second));
  if (plain) return kOpset;
  user_check(difference->since, "{} '{}': ONNX has no such operator{}; export the float network", operation.type(),
             operation.name(),
             difference->attribute.empty() ? "" : fmt::format(" with attribute '{}'", difference->attribute));
  return difference->since;
}

/// The first IR version that may name the opset.
int64_t ir_version(int64_t opset) { return opset <= 18 ? 8 : opset <= 20 ? 9 : opset <= 22 ? 10 : 11; }

std::optional<onnx_file::Attribute> file_attribute(const std::string& name, const Attribute& value) {
  using Type = onnx_file::Attribute::Type;
  onnx_file::Attribute result;
  result.name = name;
  if (const auto* i = std::get_if<int64_t>(&value)) result.type = Type::Int, result.i = *i;
  if (const auto* f = std::get_if<float>(&value)) result.type = Type::Float, result.f = *f;
  if (const auto* s = std::get_if<std::string>(&value)) result.type = Type::String, result.s = *s;
  if (const auto* list = std::get_if<std::vector<int64_t>>(&value)) result.type = Type::Ints, result.ints = *list;
  if (const auto* list = std::get_if<std::vector<float>>(&value)) result.type = Type::Floats, result.floats = *list;
  if (const auto* list = std::get_if<std::vector<std::string>>(&value))
    result.type = Type::Strings, result.strings = *list;
  if (const auto* tensor = std::get_if<at::Tensor>(&value))
    result.type = Type::Tensor, result.t = onnx_file::from_tensor(*tensor);
  // An empty list says the same as an omitted attribute, and not every reader takes it.
  const bool empty = (result.type == Type::Ints && result.ints.empty()) ||
                     (result.type == Type::Floats && result.floats.empty()) ||
                     (result.type == Type::Strings && result.strings.empty());
  return empty ? std::nullopt : std::optional(std::move(result));
}

onnx_file::Value file_value(const Variable& variable) {
  onnx_file::Value value;
  value.name = variable.name();
  value.type = onnx_file::element_type(variable.dtype());
  if (!variable.shape()) return value;
  value.shape.emplace();
  for (const int64_t dim : *variable.shape()) value.shape->push_back({.value = dim, .parameter = {}});
  return value;
}

class Writer {
 public:
  explicit Writer(const Graph& graph) : graph_(graph) {}
  onnx_file::Model model();

 private:
  const Graph& graph_;
  onnx_file::Model model_;
  std::unordered_set<const Variable*> written_;

  void add_parameter(const Variable& variable);
  void add_gated_sigmoid(const onnx_file::Node& node, float alpha);
  void add_operation(const Operation& operation);
};

void Writer::add_parameter(const Variable& variable) {
  if (!variable.is_parameter() || !written_.insert(&variable).second) return;
  model_.initializers.push_back(onnx_file::from_tensor(variable.value()));
  model_.initializers.back().name = variable.name();
}

/// x * Sigmoid(alpha * x)
void Writer::add_gated_sigmoid(const onnx_file::Node& node, float alpha) {
  const auto fresh = [&](std::string name) {
    while (graph_.find_variable(name)) name += "_";
    return name;
  };
  const std::string &input = node.inputs[0], gate = fresh(node.outputs[0] + "_gate");
  std::string scaled = input;
  if (alpha != 1) {
    scaled = fresh(node.outputs[0] + "_scaled");
    model_.initializers.push_back(onnx_file::from_tensor(at::scalar_tensor(alpha, at::kFloat)));
    model_.initializers.back().name = fresh(node.outputs[0] + "_alpha");
    model_.nodes.push_back({node.name + "_scaled", "Mul", "", {input, model_.initializers.back().name}, {scaled}, {}});
  }
  model_.nodes.push_back({node.name + "_gate", "Sigmoid", "", {scaled}, {gate}, {}});
  model_.nodes.push_back({node.name, "Mul", "", {input, gate}, node.outputs, {}});
}

void Writer::add_operation(const Operation& operation) {
  const Difference* difference = find_difference(operation);
  onnx_file::Node node;
  node.name = operation.name();
  node.type = operation.type();
  for (const Variable* input : operation.inputs()) {
    node.inputs.push_back(input ? input->name() : "");
    if (input) add_parameter(*input);
  }
  for (const Variable* output : operation.outputs()) node.outputs.push_back(output ? output->name() : "");
  for (const auto& [name, value] : operation.attributes())
    if (auto attribute = file_attribute(name, value); attribute && !says_nothing(difference, name, value))
      node.attributes.push_back(std::move(*attribute));
  if (difference && difference->as_gated_sigmoid) {
    add_gated_sigmoid(node, operation.float_attribute("alpha", 1));
    return;
  }
  model_.nodes.push_back(std::move(node));
}

onnx_file::Model Writer::model() {
  int64_t opset = kOpset;
  for (const Operation* operation : graph_.topological_order()) {
    opset = std::max(opset, needed_opset(*operation));
    add_operation(*operation);
  }
  model_.opsets[""] = opset;
  model_.ir_version = ir_version(opset);
  model_.producer_name = "espq";
  model_.producer_version = ESPQ_VERSION;
  model_.graph_name = graph_.name.empty() ? "network" : graph_.name;
  for (const Variable* input : graph_.inputs()) model_.inputs.push_back(file_value(*input));
  for (const Variable* output : graph_.outputs()) {
    add_parameter(*output);
    model_.outputs.push_back(file_value(*output));
  }
  for (const Variable* variable : graph_.variables())
    if (variable->producer() && variable->shape() && !graph_.is_output(variable))
      model_.intermediates.push_back(file_value(*variable));
  return std::move(model_);
}

}  // namespace

void export_onnx(const Graph& float_graph, const std::filesystem::path& file) {
  user_check(!float_graph.is_chip(), "{}: a graph in the chip's layouts cannot be written as ONNX", file.string());
  const bool known = std::all_of(float_graph.outputs().begin(), float_graph.outputs().end(),
                                 [](const Variable* output) { return output->shape().has_value(); });
  if (known) return onnx_file::write_model(Writer(float_graph).model(), file);
  Graph complete = float_graph.clone();
  infer_shapes(complete, zero_inputs(complete));
  onnx_file::write_model(Writer(complete).model(), file);
}

}  // namespace espq
