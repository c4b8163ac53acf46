#include <ATen/ATen.h>

#include <numeric>
#include <set>

#include "core/ops/operator.h"
#include "core/quant/fake_quantize.h"
#include "core/support/error.h"
#include "export/espdl/chip_attributes.h"
#include "export/espdl/convert.h"
#include "export/espdl/packing.h"

namespace espq {
namespace {

/// What the incumbent calls a graph without a name.
constexpr std::string_view kDefaultGraphName = "PPL Quantization Tool - v(0.6.6)";

class ModelBuilder {
 public:
  ModelBuilder(const Graph& graph, const EspdlOptions& options) : graph_(graph), options_(options) {}
  EspdlModel build(const TestValues& tests);

 private:
  using Kind = EspdlObject::Kind;
  const Graph& graph_;
  const EspdlOptions& options_;
  EspdlModel model_;
  std::vector<EspdlObject> order_;

  void add_initializer(EspdlTensor tensor) {
    order_.push_back({Kind::Initializer, model_.initializers.size()});
    model_.initializers.push_back(std::move(tensor));
  }
  void add_value_info(EspdlValueInfo value) {
    order_.push_back({Kind::ValueInfo, model_.value_infos.size()});
    model_.value_infos.push_back(std::move(value));
  }
  EspdlValueInfo value_info(const Variable& variable) const;
  std::set<const Variable*> add_tables();
  void add_node(const Operation& operation);
  void add_parameter(const Variable& variable);
  void add_variables(const std::set<const Variable*>& tables);
  void add_tests(const TestValues& tests);
  EspdlTensor test_tensor(const std::string& name, const at::Tensor& value) const;
  void add_layout(const Variable& value);
  void add_metadata();
};

std::vector<int64_t> stored_exponents(const Variable& variable) {
  if (!variable.storage() || variable.storage()->exponents.empty()) return {0};
  return {variable.storage()->exponents.begin(), variable.storage()->exponents.end()};
}

at::ScalarType stored_dtype(const Variable& variable) {
  if (variable.is_parameter()) return variable.value().scalar_type();
  return variable.storage() ? variable.storage()->dtype : variable.dtype();
}

/// `memory`: the elements in the order of the file.
EspdlTensor tensor(std::string name, const at::Tensor& memory, std::vector<int64_t> dims,
                   std::vector<int64_t> exponents) {
  EspdlTensor result;
  result.name = std::move(name);
  result.dims = std::move(dims);
  result.type = espdl_type(memory.scalar_type());
  result.exponents = std::move(exponents);
  if (memory.numel() == 0) {  // no block to point to: the file has an empty list of the type's own field instead
    if (result.type == ElementType::Float)
      result.typed = std::vector<float>();
    else if (result.type == ElementType::Int64)
      result.typed = std::vector<int64_t>();
    else if (result.type == ElementType::Double)
      result.typed = std::vector<double>();
    else
      result.typed = std::vector<int32_t>();
    return result;
  }
  const at::Tensor bytes = memory.contiguous().cpu();
  result.raw = pad_to_blocks({static_cast<const char*>(bytes.const_data_ptr()), bytes.nbytes()});
  return result;
}

EspdlAttribute attribute(const std::string& name, const Attribute& value) {
  EspdlAttribute result;
  result.name = name;
  std::visit(
      [&](const auto& item) {
        if constexpr (std::is_same_v<std::decay_t<decltype(item)>, at::Tensor>)
          result.value = tensor("", item, item.sizes().vec(), {0});
        else
          result.value = item;
      },
      value);
  return result;
}

EspdlValueInfo ModelBuilder::value_info(const Variable& variable) const {
  EspdlValueInfo result{.name = variable.name(), .type = espdl_type(stored_dtype(variable))};
  if (variable.shape()) {
    result.shape.emplace();
    for (const int64_t size : *variable.shape()) {
      user_check(size >= 0, "tensor '{}': its shape is not static, .espdl needs every dimension", variable.name());
      result.shape->push_back({.value = size});
    }
  }
  result.exponents = stored_exponents(variable);
  return result;
}

/// Look-up tables come first, in the order in which the nodes name them.
std::set<const Variable*> ModelBuilder::add_tables() {
  std::set<const Variable*> tables;
  for (const Operation* operation : graph_.topological_order()) {
    const Variable* table = operation->chip().table;
    if (!table || !tables.insert(table).second) continue;
    add_initializer(tensor(table->name(), table->value(), table->value().sizes().vec(), stored_exponents(*table)));
  }
  return tables;
}

void ModelBuilder::add_node(const Operation& operation) {
  EspdlNode node{.name = operation.name(), .op_type = operation.type()};
  for (const Variable* input : operation.inputs()) node.inputs.push_back(input ? input->name() : "");
  for (const Variable* output : operation.outputs()) node.outputs.push_back(output ? output->name() : "");
  for (const auto& [key, value] : file_attributes(operation)) node.attributes.push_back(attribute(key, value));
  order_.push_back({Kind::Node, model_.nodes.size()});
  model_.nodes.push_back(std::move(node));
}

void ModelBuilder::add_parameter(const Variable& variable) {
  WeightFormat format;
  at::Tensor value = variable.value();
  for (const ConstUse& use : variable.uses()) {
    const Operation& reader = *use.operation;
    const WeightFormat wanted =
        weight_format(&definition_of(reader), use.slot, reader.chip().kernels.value_or(Width::Float),
                      reader.int_attribute("group", 1), graph_.target()->vector_unit);
    if (wanted.packing == WeightPacking::None) {
      // Float operators read a Gemm's operand in the order that transB says; a chip graph holds [N, K].
      const auto& linear = definition_of(reader).linear;
      const bool turned =
          use.slot == 1 && linear && linear->packing == WeightPacking::Linear && reader.int_attribute("transB", 0) == 0;
      if (turned) value = variable.value().t();
      continue;
    }
    user_check(variable.uses().size() == 1,
               "tensor '{}' is a packed weight of '{}' and has other readers: give each its own", variable.name(),
               reader.name());
    format = wanted;
  }
  const Shape shape = value.sizes().vec();
  EspdlTensor stored =
      tensor(variable.name(), pack_weight(format, value), declared_dims(format, shape), stored_exponents(variable));
  stored.doc_string = "layout ==> " + layout_name(format, shape);
  add_initializer(std::move(stored));
}

void ModelBuilder::add_variables(const std::set<const Variable*>& tables) {
  for (const Variable* variable : graph_.variables()) {
    if (tables.contains(variable)) continue;
    if (variable->is_parameter())
      add_parameter(*variable);
    else
      add_value_info(value_info(*variable));
  }
  for (const EspdlNode& node : model_.nodes)
    for (const std::string& input : node.inputs)
      if (input.empty() && !model_.find_value_info(""))  // readers look every operand up, omitted ones too
        add_value_info({.name = "", .type = ElementType::Float, .exponents = {0}});
}

EspdlTensor ModelBuilder::test_tensor(const std::string& name, const at::Tensor& value) const {
  const Variable* variable = graph_.find_variable(name);
  user_check(variable, "test value '{}': there is no such tensor in the chip graph (fused away?)", name);
  at::Tensor stored = value.dim() == 0 ? value.reshape({1}) : value;
  const at::ScalarType dtype = stored_dtype(*variable);
  const auto exponents = stored_exponents(*variable);
  if (stored.is_floating_point() && !at::isFloatingType(dtype) && dtype != at::kBool && dtype != at::kLong)
    stored = quantize_to_integers(stored.to(at::kFloat), {static_cast<int>(exponents[0])}, -1,
                                  8 * static_cast<int>(c10::elementSize(dtype)), graph_.target()->rounding);
  user_check(stored.scalar_type() == dtype, "test value '{}' is {}, the tensor is stored as {}", name,
             at::toString(stored.scalar_type()), at::toString(dtype));
  return tensor(name, stored, stored.sizes().vec(), exponents);
}

void ModelBuilder::add_tests(const TestValues& tests) {
  for (const auto& [name, value] : tests.inputs) {
    order_.push_back({Kind::TestInput, model_.test_inputs.size()});
    model_.test_inputs.push_back(test_tensor(name, value));
  }
  for (const auto& [name, value] : tests.outputs) {
    order_.push_back({Kind::TestOutput, model_.test_outputs.size()});
    model_.test_outputs.push_back(test_tensor(name, value));
  }
}

void ModelBuilder::add_layout(const Variable& value) {
  if (!value.shape()) return;
  std::vector<int> order = value.permutation();
  if (order.empty()) {
    order.resize(value.shape()->size());
    std::iota(order.begin(), order.end(), 0);
  }
  const std::string key = fmt::format("{}{}", kLayoutKey, value.name());
  if (!model_.find_metadata(key)) model_.metadata.emplace_back(key, fmt::format("{}", fmt::join(order, "")));
}

void ModelBuilder::add_metadata() {
  model_.model_version = options_.model_version;
  if (options_.identify) {
    model_.metadata.emplace_back("target", graph_.target()->name);
    model_.metadata.emplace_back("espq_version", ESPQ_VERSION);
    model_.metadata.emplace_back("runtime_level", options_.runtime_level == RuntimeLevel::V3_3_9 ? "3.3.9" : "newer");
    for (const auto& list : {graph_.inputs(), graph_.outputs()})
      for (const Variable* value : list) add_layout(*value);
  }
  model_.metadata.insert(model_.metadata.end(), options_.metadata.begin(), options_.metadata.end());
}

EspdlModel ModelBuilder::build(const TestValues& tests) {
  internal_check(graph_.is_chip() && graph_.target(), ".espdl holds chip graphs: lower the graph first");
  model_.ir_version = static_cast<int32_t>(graph_.ir_version);
  model_.graph_name = graph_.name.empty() ? kDefaultGraphName : graph_.name;
  const auto tables = add_tables();
  for (const Operation* operation : graph_.topological_order()) add_node(*operation);
  add_variables(tables);
  for (const Variable* input : graph_.inputs()) model_.inputs.push_back(value_info(*input));
  for (const Variable* output : graph_.outputs()) model_.outputs.push_back(value_info(*output));
  add_tests(tests);
  add_metadata();
  model_.layout = EspdlLayout{.order = std::move(order_)};
  return std::move(model_);
}

}  // namespace

EspdlModel to_model(const Graph& chip_graph, const TestValues& tests, const EspdlOptions& options) {
  return ModelBuilder(chip_graph, options).build(tests);
}

}  // namespace espq
