#include <onnx/onnx_pb.h>

#include <limits>

#include "core/support/error.h"
#include "core/support/file.h"
#include "onnx_file/model.h"

namespace espq::onnx_file {
namespace {

void write_tensor(const Tensor& tensor, onnx::TensorProto& proto) {
  proto.set_name(tensor.name);
  proto.set_data_type(static_cast<int32_t>(tensor.type));
  proto.mutable_dims()->Add(tensor.dims.begin(), tensor.dims.end());
  proto.set_raw_data(tensor.bytes);
}

void write_attribute(const Attribute& attribute, onnx::AttributeProto& proto) {
  using Proto = onnx::AttributeProto;
  proto.set_name(attribute.name);
  switch (attribute.type) {
    case Attribute::Type::Int:
      proto.set_type(Proto::INT);
      proto.set_i(attribute.i);
      break;
    case Attribute::Type::Float:
      proto.set_type(Proto::FLOAT);
      proto.set_f(attribute.f);
      break;
    case Attribute::Type::String:
      proto.set_type(Proto::STRING);
      proto.set_s(attribute.s);
      break;
    case Attribute::Type::Tensor:
      proto.set_type(Proto::TENSOR);
      write_tensor(attribute.t, *proto.mutable_t());
      break;
    case Attribute::Type::Ints:
      proto.set_type(Proto::INTS);
      proto.mutable_ints()->Add(attribute.ints.begin(), attribute.ints.end());
      break;
    case Attribute::Type::Floats:
      proto.set_type(Proto::FLOATS);
      proto.mutable_floats()->Add(attribute.floats.begin(), attribute.floats.end());
      break;
    case Attribute::Type::Strings:
      proto.set_type(Proto::STRINGS);
      for (const auto& entry : attribute.strings) proto.add_strings(entry);
      break;
    case Attribute::Type::Other:
      internal_check(false, "attribute '" + attribute.name + "' has no type that can be written");
  }
}

void write_value(const Value& value, onnx::ValueInfoProto& proto) {
  proto.set_name(value.name);
  auto& type = *proto.mutable_type()->mutable_tensor_type();
  type.set_elem_type(static_cast<int32_t>(value.type));
  if (!value.shape) return;
  auto& shape = *type.mutable_shape();
  for (const Dimension& dimension : *value.shape) {
    auto& dim = *shape.add_dim();
    if (dimension.value >= 0)
      dim.set_dim_value(dimension.value);
    else if (!dimension.parameter.empty())
      dim.set_dim_param(dimension.parameter);
  }
}

void write_node(const Node& node, onnx::NodeProto& proto) {
  proto.set_name(node.name);
  proto.set_op_type(node.type);
  if (!node.domain.empty()) proto.set_domain(node.domain);
  for (const auto& name : node.inputs) proto.add_input(name);
  for (const auto& name : node.outputs) proto.add_output(name);
  for (const auto& attribute : node.attributes) write_attribute(attribute, *proto.add_attribute());
}

}  // namespace

std::string serialize_model(const Model& model) {
  onnx::ModelProto proto;
  proto.set_ir_version(model.ir_version);
  proto.set_producer_name(model.producer_name);
  proto.set_producer_version(model.producer_version);
  for (const auto& [domain, version] : model.opsets) {
    auto& opset = *proto.add_opset_import();
    opset.set_domain(domain);
    opset.set_version(version);
  }
  auto& graph = *proto.mutable_graph();
  graph.set_name(model.graph_name);
  for (const auto& node : model.nodes) write_node(node, *graph.add_node());
  for (const auto& tensor : model.initializers) write_tensor(tensor, *graph.add_initializer());
  for (const auto& value : model.inputs) write_value(value, *graph.add_input());
  for (const auto& value : model.outputs) write_value(value, *graph.add_output());
  for (const auto& value : model.intermediates) write_value(value, *graph.add_value_info());
  user_check(proto.ByteSizeLong() <= static_cast<size_t>(std::numeric_limits<int>::max()),
             "the network is larger than the 2 GiB that one ONNX file can hold");
  return proto.SerializeAsString();
}

void write_model(const Model& model, const std::filesystem::path& file) { write_file(file, serialize_model(model)); }

}  // namespace espq::onnx_file
