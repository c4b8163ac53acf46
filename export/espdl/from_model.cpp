#include <ATen/ATen.h>

#include <unordered_map>

#include "core/ops/operator.h"
#include "core/support/error.h"
#include "export/espdl/chip_attributes.h"
#include "export/espdl/convert.h"
#include "export/espdl/packing.h"

namespace espq {
namespace {

constexpr int64_t kLargestExponent = 1000;  // beyond the range of double: no scale of any file

/// Where a tensor is read.
struct Reader {
  const EspdlNode* node = nullptr;
  size_t slot = 0;
};

class GraphBuilder {
 public:
  GraphBuilder(const EspdlModel& model, const Target& target) : model_(model) {
    graph_.set_target(&target);
    graph_.set_stage(Stage::Chip);
    graph_.name = model.graph_name;
    graph_.ir_version = model.ir_version;
  }
  Graph build();

 private:
  const EspdlModel& model_;
  Graph graph_;
  std::unordered_map<std::string, std::vector<Reader>> readers_;

  Variable* variable(const std::string& name, const std::string& where);
  void collect_readers();
  void add_value(const EspdlValueInfo& value);
  void add_constant(const EspdlTensor& stored);
  void add_variables();
  void add_operation(const EspdlNode& node);
  void read_layout(Variable& value) const;
  bool is_bias(const std::string& name) const;
  /// Which exponents of the file mean something; tensors that are not quantized carry a 0.
  std::vector<int> exponents(const std::string& name, at::ScalarType dtype, const std::vector<int64_t>& stored) const;
};

Variable* GraphBuilder::variable(const std::string& name, const std::string& where) {
  if (name.empty()) return nullptr;
  Variable* found = graph_.find_variable(name);
  user_check(found, "{}: the file has no tensor '{}'", where, name);
  return found;
}

void GraphBuilder::collect_readers() {
  for (const EspdlNode& node : model_.nodes)
    for (size_t slot = 0; slot < node.inputs.size(); ++slot) readers_[node.inputs[slot]].push_back({&node, slot});
}

bool GraphBuilder::is_bias(const std::string& name) const {
  const auto found = readers_.find(name);
  if (found == readers_.end()) return false;
  for (const auto& [node, slot] : found->second) {
    const OperatorDefinition* definition = operators().find(node->op_type);
    if (definition && definition->input_slot(OperandRole::Bias) == slot) return true;
  }
  return false;
}

std::vector<int> GraphBuilder::exponents(const std::string& name, at::ScalarType dtype,
                                         const std::vector<int64_t>& stored) const {
  const bool quantized =
      dtype == at::kChar || dtype == at::kShort || dtype == at::kInt || (dtype == at::kLong && is_bias(name));
  if (!quantized) return {};
  user_check(!stored.empty(), "tensor '{}' holds integers without an exponent", name);
  for (const int64_t exponent : stored)
    user_check(std::abs(exponent) <= kLargestExponent, "tensor '{}' has the exponent {}", name, exponent);
  return {stored.begin(), stored.end()};
}

void GraphBuilder::add_value(const EspdlValueInfo& value) {
  if (value.name.empty()) return;  // stands for omitted operands
  Variable& added = graph_.add_variable(value.name);
  added.set_dtype(scalar_type(value.type));
  const auto stored = exponents(value.name, added.dtype(), value.exponents);
  user_check(stored.size() <= 1, "tensor '{}' has {} exponents, a computed tensor has one", value.name, stored.size());
  if (!stored.empty()) added.set_storage(StorageFormat{added.dtype(), stored});
  if (!value.shape) return;
  Shape shape;
  for (const EspdlDimension& dim : *value.shape) {
    if (dim.kind != EspdlDimension::Kind::Value) return;  // unknown
    user_check(dim.value >= 0, "tensor '{}' has the dimension {}", value.name, dim.value);
    shape.push_back(dim.value);
  }
  added.set_shape(std::move(shape));
}

void GraphBuilder::add_constant(const EspdlTensor& stored) {
  const auto found = readers_.find(stored.name);
  at::Tensor value;
  for (const Reader& reader : found == readers_.end() ? std::vector<Reader>{{}} : found->second) {
    const at::Tensor seen = to_tensor(stored, reader.node, reader.slot, graph_.target()->vector_unit);
    user_check(!value.defined() || (value.sizes() == seen.sizes() && value.equal(seen)),
               "tensor '{}' is read by operators that want it packed differently", stored.name);
    value = seen;
  }
  Variable& added = graph_.add_parameter(stored.name, value);
  const auto grid = exponents(stored.name, added.dtype(), stored.exponents);
  const auto channels = value.sizes().slice(0, std::min<size_t>(2, value.dim()));  // ConvTranspose has them on axis 1
  user_check(grid.size() <= 1 || std::count(channels.begin(), channels.end(), static_cast<int64_t>(grid.size())),
             "tensor '{}': {} exponents do not fit its shape [{}]", stored.name, grid.size(),
             fmt::join(value.sizes(), ", "));
  if (!grid.empty()) added.set_storage(StorageFormat{added.dtype(), grid});
}

/// In the order of creation, so that a graph that is written again keeps the order of the file.
void GraphBuilder::add_variables() {
  if (!model_.layout) {
    for (const EspdlTensor& tensor : model_.initializers) add_constant(tensor);
    for (const EspdlValueInfo& value : model_.value_infos) add_value(value);
    return;
  }
  for (const auto& [kind, index] : model_.layout->order) {
    if (kind == EspdlObject::Kind::Initializer) add_constant(model_.initializers.at(index));
    if (kind == EspdlObject::Kind::ValueInfo) add_value(model_.value_infos.at(index));
  }
}

Attribute attribute_value(const EspdlAttribute& stored) {
  return std::visit(
      [](const auto& value) -> Attribute {
        if constexpr (std::is_same_v<std::decay_t<decltype(value)>, EspdlTensor>)
          return to_tensor(value);
        else
          return value;
      },
      stored.value);
}

void check_arity(const Operation& operation) {
  const OperatorDefinition& definition = definition_of(operation);
  const auto check_count = [&](const char* what, const std::vector<OperandSpec>& specs, size_t given) {
    const bool variadic = !specs.empty() && specs.back().variadic;
    user_check(variadic || given <= specs.size(), "{} '{}': has {} {}, at most {} are known", operation.type(),
               operation.name(), given, what, specs.size());
  };
  check_count("operands", definition.inputs, operation.inputs().size());
  check_count("outputs", definition.outputs, operation.outputs().size());
  for (size_t slot = 0; slot < definition.inputs.size(); ++slot)
    user_check(definition.inputs[slot].optional || operation.input(slot), "{} '{}': operand '{}' is missing",
               operation.type(), operation.name(), definition.inputs[slot].name);
  user_check(!operation.outputs().empty() && operation.output(), "{} '{}': has no output", operation.type(),
             operation.name());
}

void GraphBuilder::add_operation(const EspdlNode& node) {
  const std::string where = fmt::format("{} '{}'", node.op_type, node.name);
  user_check(!node.domain || node.domain->empty(), "{}: operators of the domain '{}' are not supported", where,
             node.domain.value_or(""));
  std::vector<Variable*> inputs, outputs;
  for (const std::string& name : node.inputs) inputs.push_back(variable(name, where));
  for (const std::string& name : node.outputs) {
    outputs.push_back(variable(name, where));
    const Variable* output = outputs.back();
    user_check(!output || (!output->is_parameter() && !output->producer() &&
                           std::count(outputs.begin(), outputs.end(), output) == 1),
               "{}: its output '{}' is a constant or the output of another node", where, name);
  }
  AttributeMap attributes;
  for (const EspdlAttribute& stored : node.attributes) attributes.emplace(stored.name, attribute_value(stored));
  Operation& added = graph_.add_operation(node.op_type, node.name, inputs, outputs);
  set_file_attributes(graph_, added, std::move(attributes));
  check_arity(added);
  // A float operator's operand is stored in the order that transB says; a chip graph holds [N, K].
  const auto& linear = definition_of(added).linear;
  Variable* weight = added.input(1);
  if (linear && linear->packing == WeightPacking::Linear && weight && weight->is_parameter() &&
      added.chip().kernels.value_or(Width::Float) == Width::Float && added.int_attribute("transB", 0) == 0) {
    user_check(weight->value().dim() == 2 && weight->uses().size() == 1, "{}: its operand 1 is no matrix of its own",
               where);
    weight->set_value(weight->value().t().contiguous());
  }
}

void GraphBuilder::read_layout(Variable& value) const {
  const std::string* text = model_.find_metadata(fmt::format("{}{}", kLayoutKey, value.name()));
  if (!text) return;
  std::vector<int> order;
  for (const char digit : *text) order.push_back(digit - '0');
  std::vector<int> sorted = order;
  std::sort(sorted.begin(), sorted.end());
  bool fits = value.shape() && sorted.size() == value.shape()->size();
  for (size_t i = 0; i < sorted.size(); ++i) fits = fits && sorted[i] == static_cast<int>(i);
  user_check(fits, "the metadata '{}{}' = '{}' is no order of the tensor's dimensions", kLayoutKey, value.name(),
             *text);
  value.set_permutation(std::move(order));
}

Graph GraphBuilder::build() {
  collect_readers();
  add_variables();
  for (const EspdlNode& node : model_.nodes) add_operation(node);
  for (const EspdlValueInfo& input : model_.inputs) {
    Variable* found = variable(input.name, "graph input");
    user_check(found && !found->is_parameter() && !found->producer(), "graph input '{}' is computed or constant",
               input.name);
    graph_.add_input(*found);
    read_layout(*found);
  }
  for (const EspdlValueInfo& output : model_.outputs) {
    Variable* found = variable(output.name, "graph output");
    user_check(found, "a graph output has no name");
    graph_.add_output(*found);
    read_layout(*found);
  }
  for (const Operation* operation : graph_.topological_order())
    for (const Variable* input : operation->inputs()) {
      if (!input) continue;
      user_check(input->is_parameter() || input->producer() || graph_.is_input(input),
                 "{} '{}': nothing computes its operand '{}'", operation->type(), operation->name(), input->name());
    }
  return std::move(graph_);
}

}  // namespace

Graph from_model(const EspdlModel& model, const Target& target) { return GraphBuilder(model, target).build(); }

}  // namespace espq
