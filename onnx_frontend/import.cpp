#include <unordered_set>

#include "core/support/error.h"
#include "core/support/file.h"
#include "onnx_file/tensor.h"
#include "onnx_frontend/draft.h"
#include "onnx_frontend/onnx_frontend.h"
#include "onnx_frontend/rules.h"

namespace espq {
namespace onnx_frontend {
namespace {

constexpr int64_t kFirstOpset = 7, kLastOpset = 24;

/// Turns one parsed file into a graph.
class Importer {
 public:
  Importer(onnx_file::Model model, const OnnxImportOptions& options) : model_(std::move(model)), options_(options) {}
  Graph run();

 private:
  onnx_file::Model model_;
  const OnnxImportOptions& options_;
  Graph graph_;
  SampleRun sample_{graph_};
  int64_t opset_ = 0;
  std::unordered_map<std::string, const onnx_file::Tensor*> constants_;
  std::unordered_map<std::string, at::Tensor> short_constants_;  // Constant nodes that spell out numbers
  std::unordered_set<std::string> read_names_, node_names_;

  void check_version();
  void check_operators() const;
  void collect_constants();
  void collect_names();
  void add_inputs();
  void add_outputs();
  Shape input_shape(const onnx_file::Value& value) const;
  Variable* variable(const std::string& name);
  void add_node(const onnx_file::Node& node, size_t index);
  std::string operation_name(const onnx_file::Node& node, size_t index);
};

std::string title(const onnx_file::Node& node) {
  const std::string type = node.domain.empty() ? node.type : node.domain + "::" + node.type;
  if (!node.name.empty()) return type + " '" + node.name + "'";
  return type + " (unnamed, writes '" + (node.outputs.empty() ? "" : node.outputs[0]) + "')";
}

bool is_constant(const onnx_file::Node& node) { return node.domain.empty() && node.type == "Constant"; }

// ---------------------------------------------------------------------------------------------- what can be read
void Importer::check_version() {
  user_check(model_.ir_version >= 1, "is no ONNX model (it has no ir_version)");
  const auto found = model_.opsets.find("");
  user_check(found != model_.opsets.end() || model_.nodes.empty(), "does not say its opset version");
  opset_ = found == model_.opsets.end() ? kLastOpset : found->second;
  user_check(opset_ >= kFirstOpset && opset_ <= kLastOpset,
             "has opset version {}; espq reads {} to {}: export the network with one of these", opset_, kFirstOpset,
             kLastOpset);
}

/// All that is wrong with the node types in one message: one export round should be enough.
void Importer::check_operators() const {
  std::map<std::string, std::vector<const onnx_file::Node*>> unsupported;
  for (const auto& node : model_.nodes) {
    if (is_constant(node)) continue;
    std::string type = node.domain.empty() ? node.type : node.domain + "::" + node.type;
    const auto refused = refusal(node.type);
    if (node.domain.empty() && refused)
      unsupported[type + " (" + std::string(*refused) + ")"].push_back(&node);
    else if (!node.domain.empty() || !operators().find(vocabulary_type(node.type)))
      unsupported[type].push_back(&node);
  }
  if (unsupported.empty()) return;
  std::string list;
  for (const auto& [type, nodes] : unsupported) {
    const auto& first = *nodes.front();
    list += fmt::format("{}{}: node '{}'", list.empty() ? "" : "; ", type,
                        first.name.empty() && !first.outputs.empty() ? first.outputs[0] : first.name);
    if (nodes.size() > 1) list += fmt::format(" and {} more", nodes.size() - 1);
  }
  user_error(
      "espq does not have {} of its operators ({}). Export the network without them; `espq ops` lists what there is",
      unsupported.size(), list);
}

// ---------------------------------------------------------------------------------------------- constants
at::Tensor spelled_constant(const onnx_file::Attribute& attribute, const std::string& what) {
  using Type = onnx_file::Attribute::Type;
  if (attribute.name == "value_float" && attribute.type == Type::Float)
    return at::scalar_tensor(attribute.f, at::kFloat);
  if (attribute.name == "value_int" && attribute.type == Type::Int) return at::scalar_tensor(attribute.i, at::kLong);
  if (attribute.name == "value_floats" && attribute.type == Type::Floats)
    return at::tensor(attribute.floats, at::kFloat);
  if (attribute.name == "value_ints" && attribute.type == Type::Ints) return at::tensor(attribute.ints, at::kLong);
  user_error("{}: its attribute '{}' is no tensor that espq reads", what, attribute.name);
}

void Importer::collect_constants() {
  const auto unique = [&](const std::string& name) {
    user_check(!constants_.count(name) && !short_constants_.count(name), "tensor '{}' is defined twice", name);
  };
  for (const auto& tensor : model_.initializers) {
    unique(tensor.name);
    constants_.emplace(tensor.name, &tensor);
  }
  for (const auto& node : model_.nodes) {
    if (!is_constant(node)) continue;
    user_check(node.outputs.size() == 1 && node.attributes.size() == 1 && node.inputs.empty(),
               "{}: must have one output and one attribute", title(node));
    unique(node.outputs[0]);
    const auto& attribute = node.attributes[0];
    if (attribute.name == "value" && attribute.type == onnx_file::Attribute::Type::Tensor)
      constants_.emplace(node.outputs[0], &attribute.t);
    else
      short_constants_.emplace(node.outputs[0], spelled_constant(attribute, title(node)));
  }
}

void Importer::collect_names() {
  for (const auto& node : model_.nodes) {
    read_names_.insert(node.inputs.begin(), node.inputs.end());
    if (!node.name.empty()) node_names_.insert(node.name);
  }
  for (const auto& output : model_.outputs) read_names_.insert(output.name);
}

// ---------------------------------------------------------------------------------------------- inputs and outputs
std::string describe(const onnx_file::Value& value) {
  std::string text;
  for (const auto& dim : *value.shape) {
    if (!text.empty()) text += "x";
    text += dim.value >= 0 ? std::to_string(dim.value) : dim.parameter.empty() ? "?" : dim.parameter;
  }
  return text;
}

Shape Importer::input_shape(const onnx_file::Value& value) const {
  const auto bound = options_.input_shapes.find(value.name);
  const bool given = bound != options_.input_shapes.end();
  user_check(given || value.shape, "input '{}' has no shape: give one (--input-shape {}=1x3x...)", value.name,
             value.name);
  Shape shape;
  if (given) shape = bound->second;
  if (value.shape) {
    if (!given)
      for (const auto& dim : *value.shape) shape.push_back(dim.value);
    bool fits = shape.size() == value.shape->size();
    for (size_t i = 0; fits && i < shape.size(); ++i)
      fits = (*value.shape)[i].value < 0 || (*value.shape)[i].value == shape[i];
    user_check(fits, "input '{}' has shape {} in the file, the given shape {} does not fit", value.name,
               describe(value), fmt::join(shape, "x"));
    user_check(given || std::all_of(shape.begin(), shape.end(), [](int64_t dim) { return dim >= 0; }),
               "input '{}' has dynamic dimensions ({}): give its shape (--input-shape {}=...)", value.name,
               describe(value), value.name);
  }
  // Lists of indices may be empty, activations may not.
  const auto dtype = onnx_file::scalar_type(value.type);
  const int64_t least = dtype && !at::isFloatingType(*dtype) ? 0 : 1;
  int64_t elements = 1;
  for (const int64_t dim : shape) {
    user_check(dim >= least, "input '{}': dimension {} is impossible", value.name, dim);
    user_check(dim <= (int64_t{1} << 31) / elements, "input '{}' is too large ({})", value.name, fmt::join(shape, "x"));
    elements *= std::max<int64_t>(dim, 1);
  }
  return shape;
}

void Importer::add_inputs() {
  std::vector<std::string> names;
  for (const auto& value : model_.inputs) {
    if (constants_.count(value.name)) continue;  // before IR version 4 every initializer was listed as an input
    user_check(value.is_tensor, "input '{}' is no tensor", value.name);
    const auto dtype = onnx_file::scalar_type(value.type);
    user_check(dtype.has_value(), "input '{}' has element type {}, which espq does not support", value.name,
               element_name(value.type));
    user_check(!value.name.empty(), "an input has no name");
    names.push_back(value.name);
    Variable& input = graph_.add_variable(value.name);
    input.set_shape(input_shape(value));
    input.set_dtype(*dtype);
    graph_.add_input(input);
  }
  for (const auto& [name, shape] : options_.input_shapes)
    user_check(std::find(names.begin(), names.end(), name) != names.end(),
               "has no input '{}' to give a shape to (its inputs: {})", name, fmt::join(names, ", "));
}

void Importer::add_outputs() {
  user_check(!model_.outputs.empty(), "has no output");
  for (const auto& value : model_.outputs) {
    Variable* output = variable(value.name);
    user_check(output->producer() || output->is_parameter() || graph_.is_input(output),
               "output '{}' is produced by no node", value.name);
    user_check(!graph_.is_output(output), "output '{}' is listed twice", value.name);
    graph_.add_output(*output);
  }
}

// ---------------------------------------------------------------------------------------------- nodes
/// The variable of that name; made when the file names it for the first time.
Variable* Importer::variable(const std::string& name) {
  if (Variable* known = graph_.find_variable(name)) return known;
  const auto constant = constants_.find(name);
  if (constant != constants_.end()) return &graph_.add_parameter(name, onnx_file::to_tensor(*constant->second));
  const auto spelled = short_constants_.find(name);
  if (spelled != short_constants_.end()) return &graph_.add_parameter(name, spelled->second);
  user_check(!name.empty(), "a tensor has no name");
  return &graph_.add_variable(name);
}

Attribute graph_attribute(const onnx_file::Attribute& attribute, const std::string& what) {
  using Type = onnx_file::Attribute::Type;
  switch (attribute.type) {
    case Type::Int:
      return attribute.i;
    case Type::Float:
      return attribute.f;
    case Type::String:
      return attribute.s;
    case Type::Tensor:
      return onnx_file::to_tensor(attribute.t);
    case Type::Ints:
      return attribute.ints;
    case Type::Floats:
      return attribute.floats;
    case Type::Strings:
      return attribute.strings;
    case Type::Other:
      break;
  }
  user_error("{}: attribute '{}' is of a kind that espq does not read (subgraph, text or sparse tensor)", what,
             attribute.name);
}

std::string Importer::operation_name(const onnx_file::Node& node, size_t index) {
  const bool named = !node.name.empty();
  std::string base = named ? node.name : fmt::format("{}_{}", node.type, index);
  if (!graph_.find_operation(base) && (named || !node_names_.count(base))) return base;
  for (int i = 2;; ++i) {
    std::string candidate = fmt::format("{}_{}", base, i);
    if (!graph_.find_operation(candidate) && !node_names_.count(candidate)) return candidate;
  }
}

void Importer::add_node(const onnx_file::Node& node, size_t index) {
  Draft draft(graph_, sample_);
  draft.type = node.type;
  draft.name = operation_name(node, index);
  draft.opset = opset_;
  for (const auto& attribute : node.attributes)
    user_check(draft.attributes.emplace(attribute.name, graph_attribute(attribute, title(node))).second,
               "{}: attribute '{}' is given twice", title(node), attribute.name);
  for (const auto& name : node.inputs) draft.inputs.push_back(name.empty() ? nullptr : variable(name));
  for (size_t slot = 0; slot < node.outputs.size(); ++slot) {
    const std::string& name = node.outputs[slot];
    // Further outputs that nobody reads (masks, statistics, indices) need no support.
    Variable* output = name.empty() || (slot > 0 && !read_names_.count(name)) ? nullptr : variable(name);
    const bool writable = !output || (!output->is_parameter() && !output->producer() && !graph_.is_input(output));
    user_check(writable, "{}: tensor '{}' is defined twice", title(node), name);
    draft.outputs.push_back(output);
  }
  normalize(draft);
  draft.finish();
}

Graph Importer::run() {
  check_version();
  check_operators();
  graph_.name = model_.graph_name;
  graph_.ir_version = model_.ir_version;
  collect_constants();
  collect_names();
  add_inputs();
  for (size_t index = 0; index < model_.nodes.size(); ++index)
    if (!is_constant(model_.nodes[index])) add_node(model_.nodes[index], index);
  add_outputs();
  for (const Operation* operation : graph_.operations())
    for (const Variable* input : operation->inputs())
      if (input)
        user_check(input->producer() || input->is_parameter() || graph_.is_input(input),
                   "{} '{}': its input '{}' is produced by no node", operation->type(), operation->name(),
                   input->name());
  graph_.topological_order();  // refuses cycles
  return std::move(graph_);
}

}  // namespace
}  // namespace onnx_frontend

Graph import_onnx_bytes(std::string_view bytes, const std::string& name, const std::filesystem::path& folder,
                        const OnnxImportOptions& options) {
  auto model = onnx_file::parse_model(bytes, name, folder);
  try {
    return onnx_frontend::Importer(std::move(model), options).run();
  } catch (const UserError& error) {
    throw UserError(fmt::format("{}: {}", name, error.what()));
  } catch (const c10::Error& error) {
    // A kernel met operands that it cannot take while a shape was computed, or memory ran out.
    throw UserError(fmt::format("{}: {}", name, error.what_without_backtrace()));
  }
}

Graph import_onnx(const std::filesystem::path& file, const OnnxImportOptions& options) {
  return import_onnx_bytes(read_file(file), file.string(), file.parent_path(), options);
}

}  // namespace espq
