#include "export/espdl/writer.h"

#include <algorithm>
#include <set>

#include "core/support/error.h"
#include "espdl_generated.h"
#include "export/espdl/container.h"

namespace espq {
namespace {

using flatbuffers::Offset;
using flatbuffers::Vector;

/// The stock builder plus the older rule for sharing field tables: equal when the fields are, whatever the object size.
class Builder : public flatbuffers::FlatBufferBuilder {
 public:
  explicit Builder(bool vtables_ignore_size) : vtables_ignore_size_(vtables_ignore_size) {
    DedupVtables(!vtables_ignore_size);
  }

  /// Ends a table begun with one of the generated table builders.
  template <typename TableBuilder>
  auto finish(TableBuilder& table) {
    const auto offset = table.Finish();
    if (vtables_ignore_size_) share_vtable(offset.o);
    return offset;
  }

 private:
  bool vtables_ignore_size_;
  std::vector<flatbuffers::uoffset_t> vtables_;

  /// Called when the table's own field table is the newest thing in the buffer.
  void share_vtable(flatbuffers::uoffset_t table) {
    using flatbuffers::voffset_t;
    const auto* own = reinterpret_cast<const voffset_t*>(buf_.data());
    flatbuffers::uoffset_t used = GetSize();
    for (const auto candidate : vtables_) {
      const auto* other = reinterpret_cast<const voffset_t*>(buf_.data_at(candidate));
      if (own[0] != other[0] || std::memcmp(own + 2, other + 2, own[0] - 2 * sizeof(voffset_t)) != 0) continue;
      used = candidate;
      buf_.pop(GetSize() - table);
      break;
    }
    if (used == GetSize()) vtables_.push_back(used);
    flatbuffers::WriteScalar(buf_.data_at(table),
                             static_cast<flatbuffers::soffset_t>(used) - static_cast<flatbuffers::soffset_t>(table));
  }
};

/// Writes one model; children before parents, in the order in which esp-ppq creates them.
class PayloadWriter {
 public:
  explicit PayloadWriter(const EspdlModel& model)
      : model_(model), builder_(model.layout && model.layout->vtables_ignore_size) {}

  std::string write();

 private:
  const EspdlModel& model_;
  Builder builder_;
  std::vector<Offset<schema::Tensor>> initializers_, test_inputs_, test_outputs_;
  std::vector<Offset<schema::Node>> nodes_;
  std::vector<Offset<schema::ValueInfo>> value_infos_;

  Offset<flatbuffers::String> text(const std::string& value) { return builder_.CreateString(value); }
  Offset<flatbuffers::String> optional_text(const std::optional<std::string>& value) {
    return value ? text(*value) : Offset<flatbuffers::String>();
  }
  Offset<Vector<Offset<flatbuffers::String>>> texts(const std::vector<std::string>& values) {
    std::vector<Offset<flatbuffers::String>> offsets;
    offsets.reserve(values.size());
    for (const auto& value : values) offsets.push_back(text(value));
    return builder_.CreateVector(offsets);
  }
  /// A vector of scalars. The stock builder does not align an empty one, esp-ppq does.
  template <typename T>
  Offset<Vector<T>> numbers(const std::vector<T>& values) {
    if (values.empty()) builder_.Align(sizeof(T));
    return builder_.CreateVector(values);
  }

  Offset<Vector<const schema::AlignedBytes*>> raw_blocks(const std::string& bytes);
  Offset<Vector<float>> doubles(const std::vector<float>& values);
  Offset<schema::Tensor> tensor(const EspdlTensor& value);
  Offset<schema::Attribute> attribute(const EspdlAttribute& value);
  Offset<schema::Node> node(const EspdlNode& value);
  Offset<Vector<Offset<schema::Dimension>>> dimensions(const std::vector<EspdlDimension>& shape);
  Offset<schema::ValueInfo> value_info(const EspdlValueInfo& value);
  Offset<Vector<Offset<schema::ValueInfo>>> references(const std::vector<EspdlValueInfo>& values);
  std::vector<EspdlObject> creation_order() const;
  void objects();
  Offset<schema::Graph> graph();
};

Offset<Vector<const schema::AlignedBytes*>> PayloadWriter::raw_blocks(const std::string& bytes) {
  internal_check(bytes.size() % sizeof(schema::AlignedBytes) == 0, "raw bytes are not padded to whole blocks");
  uint8_t* blocks = nullptr;
  const size_t count = bytes.size() / sizeof(schema::AlignedBytes);
  if (count == 0) builder_.Align(sizeof(schema::AlignedBytes));
  const auto offset = builder_.CreateUninitializedVector(count, sizeof(schema::AlignedBytes), &blocks);
  std::copy(bytes.begin(), bytes.end(), blocks);
  return offset;
}

/// The incumbent's 8-byte form under a 4-byte type: the count is that of the elements.
Offset<Vector<float>> PayloadWriter::doubles(const std::vector<float>& values) {
  builder_.StartVector(values.size(), sizeof(double));
  for (size_t i = values.size(); i > 0; --i) builder_.PushElement(static_cast<double>(values[i - 1]));
  return builder_.EndVector(values.size());
}

Offset<schema::Tensor> PayloadWriter::tensor(const EspdlTensor& value) {
  const auto name = text(value.name);
  const auto dims = numbers(value.dims);
  const auto exponents = numbers(value.exponents);
  const auto doc = optional_text(value.doc_string);
  const auto raw = value.raw ? raw_blocks(*value.raw) : Offset<Vector<const schema::AlignedBytes*>>();
  flatbuffers::uoffset_t typed = 0;
  std::visit(
      [&](const auto& data) {
        using Data = std::decay_t<decltype(data)>;
        if constexpr (std::is_same_v<Data, std::vector<std::string>>)
          typed = texts(data).o;
        else if constexpr (!std::is_same_v<Data, std::monostate>)
          typed = numbers(data).o;
      },
      value.typed);

  schema::TensorBuilder table(builder_);
  table.add_data_type(static_cast<schema::TensorDataType>(value.type));
  table.add_name(name);
  table.add_doc_string(doc);
  table.add_raw_data(raw);
  if (std::holds_alternative<std::vector<float>>(value.typed)) table.add_float_data(typed);
  if (std::holds_alternative<std::vector<int32_t>>(value.typed)) table.add_int32_data(typed);
  if (std::holds_alternative<std::vector<std::string>>(value.typed)) table.add_string_data(typed);
  if (std::holds_alternative<std::vector<int64_t>>(value.typed)) table.add_int64_data(typed);
  if (std::holds_alternative<std::vector<double>>(value.typed)) table.add_double_data(typed);
  if (std::holds_alternative<std::vector<uint64_t>>(value.typed)) table.add_uint64_data(typed);
  table.add_dims(dims);
  table.add_exponents(exponents);
  return builder_.finish(table);
}

Offset<schema::Attribute> PayloadWriter::attribute(const EspdlAttribute& value) {
  const auto name = text(value.name);
  const auto doc = optional_text(value.doc_string);
  // Lists and tensors come before the table, plain numbers inside it.
  const auto begin = [&](schema::AttributeBuilder& table) {
    table.add_name(name);
    table.add_doc_string(doc);
  };
  const auto end = [&](schema::AttributeBuilder& table, schema::AttributeType type) {
    table.add_attr_type(type);
    return builder_.finish(table);
  };
  const auto with_child = [&](auto child, auto add, schema::AttributeType type) {
    schema::AttributeBuilder table(builder_);
    begin(table);
    (table.*add)(child);
    return end(table, type);
  };
  const auto with_struct = [&](auto inline_value, auto add, schema::AttributeType type) {
    schema::AttributeBuilder table(builder_);
    begin(table);
    (table.*add)(&inline_value);
    return end(table, type);
  };
  using Table = schema::AttributeBuilder;
  if (const auto* number = std::get_if<int64_t>(&value.value))
    return with_struct(schema::AttributeI(*number), &Table::add_i, schema::AttributeType_INT);
  if (const auto* number = std::get_if<float>(&value.value))
    return with_struct(schema::AttributeF(*number), &Table::add_f, schema::AttributeType_FLOAT);
  if (const auto* string = std::get_if<std::string>(&value.value))
    return with_child(numbers(std::vector<uint8_t>(string->begin(), string->end())), &Table::add_s,
                      schema::AttributeType_STRING);
  if (const auto* nested = std::get_if<EspdlTensor>(&value.value))
    return with_child(tensor(*nested), &Table::add_t, schema::AttributeType_TENSOR);
  if (const auto* floats = std::get_if<std::vector<float>>(&value.value))
    return with_child(value.stored_as_doubles ? doubles(*floats) : numbers(*floats), &Table::add_floats,
                      schema::AttributeType_FLOATS);
  if (const auto* integers = std::get_if<std::vector<int64_t>>(&value.value))
    return with_child(numbers(*integers), &Table::add_ints, schema::AttributeType_INTS);
  return with_child(texts(std::get<std::vector<std::string>>(value.value)), &Table::add_strings,
                    schema::AttributeType_STRINGS);
}

Offset<schema::Node> PayloadWriter::node(const EspdlNode& value) {
  const auto op_type = text(value.op_type);
  const auto inputs = texts(value.inputs);
  const auto outputs = texts(value.outputs);
  const auto name = text(value.name);
  const auto doc = optional_text(value.doc_string);
  const auto domain = optional_text(value.domain);
  std::vector<Offset<schema::Attribute>> attributes;
  for (const auto& item : value.attributes) attributes.push_back(attribute(item));
  const auto attribute_vector =
      attributes.empty() ? Offset<Vector<Offset<schema::Attribute>>>() : builder_.CreateVector(attributes);

  schema::NodeBuilder table(builder_);
  table.add_op_type(op_type);
  table.add_input(inputs);
  table.add_output(outputs);
  table.add_name(name);
  table.add_doc_string(doc);
  table.add_domain(domain);
  table.add_attribute(attribute_vector);
  return builder_.finish(table);
}

Offset<Vector<Offset<schema::Dimension>>> PayloadWriter::dimensions(const std::vector<EspdlDimension>& shape) {
  std::vector<Offset<schema::DimensionValue>> values;
  for (const auto& dimension : shape) {
    const auto parameter = dimension.parameter.empty() ? Offset<flatbuffers::String>() : text(dimension.parameter);
    schema::DimensionValueBuilder table(builder_);
    table.add_dim_type(static_cast<schema::DimensionValueType>(dimension.kind));
    table.add_dim_value(dimension.value);
    table.add_dim_param(parameter);
    values.push_back(builder_.finish(table));
  }
  std::vector<Offset<schema::Dimension>> result;
  for (const auto value : values) {
    schema::DimensionBuilder table(builder_);
    table.add_value(value);
    result.push_back(builder_.finish(table));
  }
  return builder_.CreateVector(result);
}

Offset<schema::ValueInfo> PayloadWriter::value_info(const EspdlValueInfo& value) {
  const auto name = text(value.name);
  const auto doc = optional_text(value.doc_string);
  Offset<schema::TensorShape> shape;
  if (value.shape) {
    const auto dims = dimensions(*value.shape);
    schema::TensorShapeBuilder table(builder_);
    table.add_dim(dims);
    shape = builder_.finish(table);
  }
  schema::TensorTypeAndShapeBuilder tensor(builder_);
  tensor.add_shape(shape);
  tensor.add_elem_type(static_cast<schema::TensorDataType>(value.type));
  const auto tensor_offset = builder_.finish(tensor);
  schema::TypeInfoBuilder type(builder_);
  type.add_value_type(schema::TypeInfoValue_tensor_type);
  type.add_value(tensor_offset.Union());
  const auto type_offset = builder_.finish(type);
  const auto exponents = numbers(value.exponents);

  schema::ValueInfoBuilder table(builder_);
  table.add_name(name);
  table.add_value_info_type(type_offset);
  table.add_doc_string(doc);
  table.add_exponents(exponents);
  return builder_.finish(table);
}

/// Graph inputs and outputs are the very objects of the value_info list.
Offset<Vector<Offset<schema::ValueInfo>>> PayloadWriter::references(const std::vector<EspdlValueInfo>& values) {
  std::vector<Offset<schema::ValueInfo>> offsets;
  for (const auto& value : values) {
    size_t found = 0;
    while (found < model_.value_infos.size() && !(model_.value_infos[found] == value)) ++found;
    offsets.push_back(found < value_infos_.size() ? value_infos_[found] : value_info(value));
  }
  return builder_.CreateVector(offsets);
}

std::vector<EspdlObject> PayloadWriter::creation_order() const {
  using Kind = EspdlObject::Kind;
  std::vector<EspdlObject> order;
  const auto all = [&](Kind kind, size_t count) {
    for (size_t i = 0; i < count; ++i) order.push_back({kind, i});
  };
  std::set<std::string> read_by_nodes;
  for (const auto& node : model_.nodes) read_by_nodes.insert(node.inputs.begin(), node.inputs.end());
  const auto initializers = [&](bool read) {
    for (size_t i = 0; i < model_.initializers.size(); ++i)
      if (read_by_nodes.contains(model_.initializers[i].name) == read) order.push_back({Kind::Initializer, i});
  };
  initializers(false);
  all(Kind::Node, model_.nodes.size());
  all(Kind::ValueInfo, model_.value_infos.size());
  initializers(true);
  all(Kind::TestInput, model_.test_inputs.size());
  all(Kind::TestOutput, model_.test_outputs.size());
  return order;
}

void PayloadWriter::objects() {
  using Kind = EspdlObject::Kind;
  initializers_.resize(model_.initializers.size());
  nodes_.resize(model_.nodes.size());
  value_infos_.resize(model_.value_infos.size());
  test_inputs_.resize(model_.test_inputs.size());
  test_outputs_.resize(model_.test_outputs.size());
  const auto order = model_.layout ? model_.layout->order : creation_order();
  size_t expected =
      initializers_.size() + nodes_.size() + value_infos_.size() + test_inputs_.size() + test_outputs_.size();
  const auto place = [&](auto& offsets, size_t index, auto create) {
    internal_check(index < offsets.size() && offsets[index].IsNull(), "the object order names an object twice");
    offsets[index] = create();
  };
  for (const auto& [kind, index] : order) {
    const size_t i = index;
    switch (kind) {
      case Kind::Initializer:
        place(initializers_, i, [&] { return tensor(model_.initializers[i]); });
        break;
      case Kind::Node:
        place(nodes_, i, [&] { return node(model_.nodes[i]); });
        break;
      case Kind::ValueInfo:
        place(value_infos_, i, [&] { return value_info(model_.value_infos[i]); });
        break;
      case Kind::TestInput:
        place(test_inputs_, i, [&] { return tensor(model_.test_inputs[i]); });
        break;
      case Kind::TestOutput:
        place(test_outputs_, i, [&] { return tensor(model_.test_outputs[i]); });
        break;
    }
  }
  internal_check(order.size() == expected, "the object order does not name every object");
}

Offset<schema::Graph> PayloadWriter::graph() {
  const auto name = text(model_.graph_name);
  const auto doc = optional_text(model_.graph_doc_string);
  const auto initializers = builder_.CreateVector(initializers_);
  const auto value_infos = builder_.CreateVector(value_infos_);
  const auto test_inputs = builder_.CreateVector(test_inputs_);
  const auto test_outputs = builder_.CreateVector(test_outputs_);
  const auto nodes = builder_.CreateVector(nodes_);
  const auto inputs = references(model_.inputs);
  const auto outputs = references(model_.outputs);

  schema::GraphBuilder table(builder_);
  table.add_initializer(initializers);
  table.add_value_info(value_infos);
  table.add_test_inputs_value(test_inputs);
  table.add_test_outputs_value(test_outputs);
  table.add_node(nodes);
  table.add_name(name);
  table.add_doc_string(doc);
  table.add_input(inputs);
  table.add_output(outputs);
  return builder_.finish(table);
}

std::string PayloadWriter::write() {
  objects();
  const auto graph_offset = graph();
  std::vector<Offset<schema::StringStringEntry>> metadata;
  for (const auto& [key, value] : model_.metadata) {
    const auto key_offset = text(key), value_offset = text(value);
    schema::StringStringEntryBuilder table(builder_);
    table.add_key(key_offset);
    table.add_value(value_offset);
    metadata.push_back(builder_.finish(table));
  }
  std::vector<Offset<schema::OperatorSetId>> opsets;
  for (const auto& [domain, version] : model_.opset_imports) {
    const auto domain_offset = text(domain);
    schema::OperatorSetIdBuilder table(builder_);
    table.add_domain(domain_offset);
    table.add_version(version);
    opsets.push_back(builder_.finish(table));
  }
  const auto producer_name = optional_text(model_.producer_name);
  const auto producer_version = optional_text(model_.producer_version);
  const auto domain = optional_text(model_.domain);
  const auto doc = optional_text(model_.doc_string);
  const auto opset_vector = builder_.CreateVector(opsets);
  const auto metadata_vector =
      metadata.empty() ? Offset<Vector<Offset<schema::StringStringEntry>>>() : builder_.CreateVector(metadata);

  schema::ModelBuilder table(builder_);
  table.add_graph(graph_offset);
  table.add_opset_import(opset_vector);
  table.add_ir_version(model_.ir_version);
  table.add_producer_name(producer_name);
  table.add_producer_version(producer_version);
  table.add_domain(domain);
  table.add_doc_string(doc);
  table.add_model_version(model_.model_version);
  table.add_metadata_props(metadata_vector);
  builder_.Finish(builder_.finish(table));
  return {reinterpret_cast<const char*>(builder_.GetBufferPointer()), builder_.GetSize()};
}

}  // namespace

std::string write_payload(const EspdlModel& model) { return PayloadWriter(model).write(); }

std::string write_espdl(const EspdlModel& model, const std::optional<AesKey>& key) {
  return make_envelope(write_payload(model), key ? &*key : nullptr);
}

}  // namespace espq
