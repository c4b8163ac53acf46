#include <onnx/onnx_pb.h>

#include <array>
#include <bit>
#include <cstring>
#include <fstream>
#include <limits>

#include "core/support/error.h"
#include "core/support/file.h"
#include "onnx_file/model.h"

static_assert(std::endian::native == std::endian::little, "ONNX's raw data is little-endian, as is the memory here");

namespace espq::onnx_file {
namespace {

/// Everything that the conversion of one file needs to know.
struct Reader {
  const std::string& file;
  std::filesystem::path folder;

  Tensor tensor(onnx::TensorProto& proto, const std::string& owner) const;
  void external_data(const onnx::TensorProto& proto, size_t expected, Tensor& tensor, const std::string& what) const;
  Attribute attribute(onnx::AttributeProto& proto, const std::string& node) const;
  Value value(const onnx::ValueInfoProto& proto) const;
  std::string text(const std::string& bytes, std::string_view what) const;
};

bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const int follow = lead < 0x80                   ? 0
                       : lead >= 0xC2 && lead < 0xE0 ? 1
                       : (lead & 0xF0) == 0xE0       ? 2
                       : lead >= 0xF0 && lead < 0xF5 ? 3
                                                     : -1;
    if (follow < 0 || i + follow >= text.size()) return false;
    for (int k = 1; k <= follow; ++k)
      if ((static_cast<unsigned char>(text[i + k]) & 0xC0) != 0x80) return false;
    i += 1 + follow;
  }
  return true;
}

/// Names travel on into text, JSON and .espdl files: they have to be text.
std::string Reader::text(const std::string& bytes, std::string_view what) const {
  user_check(is_utf8(bytes) && bytes.find('\0') == std::string::npos, "{}: {} is not valid UTF-8 text (damaged file?)",
             file, what);
  return bytes;
}

template <typename To, typename Field>
std::string packed(const Field& field) {
  std::string bytes(field.size() * sizeof(To), '\0');
  char* out = bytes.data();
  for (const auto value : field) {
    const To converted = static_cast<To>(value);
    std::memcpy(out, &converted, sizeof(To));
    out += sizeof(To);
  }
  return bytes;
}

/// The values of the typed field that the element type uses, as raw bytes.
std::string typed_data(const onnx::TensorProto& proto, ElementType type) {
  switch (type) {
    case ElementType::Float:
      return packed<float>(proto.float_data());
    case ElementType::Double:
      return packed<double>(proto.double_data());
    case ElementType::Int64:
      return packed<int64_t>(proto.int64_data());
    case ElementType::Uint64:
      return packed<uint64_t>(proto.uint64_data());
    case ElementType::Uint32:
      return packed<uint32_t>(proto.uint64_data());
    case ElementType::Int32:
      return packed<int32_t>(proto.int32_data());
    case ElementType::Int16:
    case ElementType::Uint16:
    case ElementType::Float16:
    case ElementType::Bfloat16:
      return packed<uint16_t>(proto.int32_data());
    case ElementType::Int8:
    case ElementType::Uint8:
    case ElementType::Bool:
      return packed<uint8_t>(proto.int32_data());
    default:
      return {};
  }
}

/// Product of the dimensions; throws on negative ones and on overflow.
int64_t checked_elements(const std::vector<int64_t>& dims, size_t size, const std::string& file,
                         const std::string& what) {
  user_check(dims.size() <= 64, "{}: {} has {} dimensions (damaged file?)", file, what, dims.size());
  // A dimension of zero must not hide an overflow of the others: strides are computed from all of them.
  int64_t elements = 1, bound = 1;
  for (const int64_t dim : dims) {
    user_check(dim >= 0, "{}: {} has a negative dimension ({})", file, what, dim);
    const int64_t limit = std::numeric_limits<int64_t>::max() / 16 / static_cast<int64_t>(size);
    user_check(dim == 0 || bound <= limit / dim, "{}: {} is too large (damaged file?)", file, what);
    if (dim != 0) bound *= dim;
    elements *= dim;
  }
  return elements;
}

Tensor Reader::tensor(onnx::TensorProto& proto, const std::string& owner) const {
  Tensor result;
  result.name = text(proto.name(), "a tensor name");
  result.type = static_cast<ElementType>(proto.data_type());
  result.dims.assign(proto.dims().begin(), proto.dims().end());
  const std::string what = owner + " '" + result.name + "'";
  const size_t size = element_size(result.type);
  user_check(size != 0, "{}: {} has element type {}, which espq does not read", file, what, element_name(result.type));
  user_check(!proto.has_segment(), "{}: {} is split into segments, which espq does not read", file, what);
  const size_t expected = static_cast<size_t>(checked_elements(result.dims, size, file, what)) * size;
  if (proto.data_location() == onnx::TensorProto::EXTERNAL)
    external_data(proto, expected, result, what);
  else if (proto.has_raw_data())
    result.bytes = std::move(*proto.mutable_raw_data());
  else
    result.bytes = typed_data(proto, result.type);
  user_check(result.bytes.size() == expected, "{}: {} holds {} bytes of data, its shape needs {} (damaged file?)", file,
             what, result.bytes.size(), expected);
  return result;
}

int64_t external_number(const std::string& text, const std::string& file, const std::string& what) {
  int64_t number = 0;
  user_check(!text.empty() && text.size() <= 18, "{}: {}: external data has a malformed number '{}'", file, what, text);
  for (const char c : text) {
    user_check(c >= '0' && c <= '9', "{}: {}: external data has a malformed number '{}'", file, what, text);
    number = number * 10 + (c - '0');
  }
  return number;
}

/// A model may name only files beside or below itself: a file from elsewhere must not make espq read others.
std::filesystem::path inside_folder(const std::filesystem::path& folder, const std::string& location,
                                    const std::string& file, const std::string& what) {
  const std::filesystem::path relative = std::filesystem::path(location).lexically_normal();
  const bool leaves = relative.empty() || relative.is_absolute() || *relative.begin() == "..";
  user_check(!leaves, "{}: {}: external data '{}' is not inside the model's folder", file, what, location);
  std::error_code status;
  const auto root = std::filesystem::canonical(folder.empty() ? "." : folder, status);
  user_check(!status, "{}: {}: the model's folder cannot be opened", file, what);
  auto target = std::filesystem::canonical(root / relative, status);
  user_check(!status && std::filesystem::is_regular_file(target, status), "{}: {}: external data file '{}' is missing",
             file, what, location);
  const auto outside = target.lexically_relative(root);
  user_check(!outside.empty() && *outside.begin() != "..",
             "{}: {}: external data '{}' is a link that leaves the model's folder", file, what, location);
  return target;
}

void Reader::external_data(const onnx::TensorProto& proto, size_t expected, Tensor& tensor,
                           const std::string& what) const {
  std::string location;
  int64_t offset = 0;
  std::optional<int64_t> length;
  for (const auto& entry : proto.external_data()) {
    if (entry.key() == "location") location = text(entry.value(), "an external data location");
    if (entry.key() == "offset") offset = external_number(text(entry.value(), "an offset"), file, what);
    if (entry.key() == "length") length = external_number(text(entry.value(), "a length"), file, what);
  }
  const auto path = inside_folder(folder, location, file, what);
  std::error_code status;
  const auto file_size = static_cast<int64_t>(std::filesystem::file_size(path, status));
  user_check(!status, "{}: {}: external data file '{}' cannot be read", file, what, location);
  user_check(!length || static_cast<size_t>(*length) == expected,
             "{}: {}: external data is {} bytes long, the tensor's shape needs {}", file, what, length.value_or(0),
             expected);
  user_check(offset <= file_size && static_cast<int64_t>(expected) <= file_size - offset,
             "{}: {}: external data file '{}' ends too early ({} bytes, {} needed)", file, what, location, file_size,
             offset + static_cast<int64_t>(expected));
  std::ifstream stream(path, std::ios::binary);
  tensor.bytes.resize(expected);
  stream.seekg(offset);
  stream.read(tensor.bytes.data(), static_cast<std::streamsize>(expected));
  user_check(stream.good() || expected == 0, "{}: {}: reading external data '{}' failed", file, what, location);
}

/// Old files leave the type out; then the one field that is set tells it.
onnx::AttributeProto::AttributeType attribute_type(const onnx::AttributeProto& proto) {
  using Proto = onnx::AttributeProto;
  if (proto.type() != Proto::UNDEFINED) return proto.type();
  if (proto.has_i()) return Proto::INT;
  if (proto.has_f()) return Proto::FLOAT;
  if (proto.has_s()) return Proto::STRING;
  if (proto.has_t()) return Proto::TENSOR;
  if (proto.ints_size()) return Proto::INTS;
  if (proto.floats_size()) return Proto::FLOATS;
  if (proto.strings_size()) return Proto::STRINGS;
  return Proto::UNDEFINED;
}

Attribute Reader::attribute(onnx::AttributeProto& proto, const std::string& node) const {
  using Proto = onnx::AttributeProto;
  Attribute result;
  result.name = text(proto.name(), "an attribute name");
  switch (attribute_type(proto)) {
    case Proto::INT:
      result.type = Attribute::Type::Int;
      result.i = proto.i();
      break;
    case Proto::FLOAT:
      result.type = Attribute::Type::Float;
      result.f = proto.f();
      break;
    case Proto::STRING:
      result.type = Attribute::Type::String;
      result.s = text(proto.s(), "a text attribute");
      break;
    case Proto::INTS:
      result.type = Attribute::Type::Ints;
      result.ints.assign(proto.ints().begin(), proto.ints().end());
      break;
    case Proto::FLOATS:
      result.type = Attribute::Type::Floats;
      result.floats.assign(proto.floats().begin(), proto.floats().end());
      break;
    case Proto::STRINGS:
      result.type = Attribute::Type::Strings;
      for (const auto& entry : proto.strings()) result.strings.push_back(text(entry, "a text attribute"));
      break;
    case Proto::TENSOR:
      // Text tensors never reach a kernel; they stay "Other" and are refused only if something needs them.
      if (static_cast<ElementType>(proto.t().data_type()) == ElementType::String) break;
      result.type = Attribute::Type::Tensor;
      result.t = tensor(*proto.mutable_t(), node + ": attribute '" + result.name + "'");
      break;
    default:
      break;
  }
  return result;
}

Value Reader::value(const onnx::ValueInfoProto& proto) const {
  Value result;
  result.name = text(proto.name(), "a tensor name");
  result.is_tensor = !proto.has_type() || proto.type().has_tensor_type();
  if (!proto.has_type() || !result.is_tensor) return result;
  const auto& type = proto.type().tensor_type();
  result.type = static_cast<ElementType>(type.elem_type());
  if (!type.has_shape()) return result;
  result.shape.emplace();
  for (const auto& dim : type.shape().dim()) {
    Dimension dimension;
    // Exporters write 0 and -1 for "unknown" too.
    if (dim.has_dim_value() && dim.dim_value() > 0) dimension.value = dim.dim_value();
    if (dim.has_dim_param()) dimension.parameter = text(dim.dim_param(), "a dimension name");
    result.shape->push_back(std::move(dimension));
  }
  return result;
}

Node read_node(const Reader& reader, onnx::NodeProto& proto) {
  Node node;
  node.name = reader.text(proto.name(), "a node name");
  node.type = reader.text(proto.op_type(), "an operator type");
  node.domain = reader.text(proto.domain(), "an operator domain");
  if (node.domain == "ai.onnx") node.domain.clear();
  for (const auto& name : proto.input()) node.inputs.push_back(reader.text(name, "a tensor name"));
  for (const auto& name : proto.output()) node.outputs.push_back(reader.text(name, "a tensor name"));
  const std::string title = node.type + " '" + node.name + "'";
  for (auto& attribute : *proto.mutable_attribute()) node.attributes.push_back(reader.attribute(attribute, title));
  return node;
}

template <typename Message>
Message parse_message(std::string_view bytes, const std::string& name, const char* what) {
  user_check(!bytes.empty(), "{}: the file is empty", name);
  user_check(bytes.size() <= static_cast<size_t>(std::numeric_limits<int>::max()),
             "{}: is larger than 2 GiB; save the model with external data", name);
  Message message;
  user_check(message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())),
             "{}: is no {} or is damaged (protobuf cannot decode it)", name, what);
  return message;
}

}  // namespace

int64_t Tensor::elements() const {
  int64_t count = 1;
  for (const int64_t dim : dims) count *= dim;
  return count;
}

Model parse_model(std::string_view bytes, const std::string& name, const std::filesystem::path& folder) {
  auto proto = parse_message<onnx::ModelProto>(bytes, name, "ONNX model");
  user_check(proto.has_graph(), "{}: is no ONNX model (it has no graph)", name);
  const Reader reader{name, folder};
  Model model;
  model.ir_version = proto.ir_version();
  model.producer_name = reader.text(proto.producer_name(), "the producer's name");
  model.producer_version = reader.text(proto.producer_version(), "the producer's version");
  for (const auto& opset : proto.opset_import())
    model.opsets[opset.domain() == "ai.onnx" ? "" : reader.text(opset.domain(), "a domain")] = opset.version();
  auto& graph = *proto.mutable_graph();
  user_check(graph.sparse_initializer_size() == 0, "{}: has sparse initializers, which espq does not read", name);
  model.graph_name = reader.text(graph.name(), "the graph's name");
  for (auto& node : *graph.mutable_node()) model.nodes.push_back(read_node(reader, node));
  for (auto& tensor : *graph.mutable_initializer()) model.initializers.push_back(reader.tensor(tensor, "initializer"));
  for (const auto& value : graph.input()) model.inputs.push_back(reader.value(value));
  for (const auto& value : graph.output()) model.outputs.push_back(reader.value(value));
  for (const auto& value : graph.value_info()) model.intermediates.push_back(reader.value(value));
  return model;
}

Model read_model(const std::filesystem::path& file) {
  return parse_model(read_file(file), file.string(), file.parent_path());
}

Tensor read_tensor(const std::filesystem::path& file) {
  const std::string name = file.string();
  auto proto = parse_message<onnx::TensorProto>(read_file(file), name, "ONNX tensor");
  return Reader{name, file.parent_path()}.tensor(proto, "tensor");
}

}  // namespace espq::onnx_file
