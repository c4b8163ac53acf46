#include "export/espdl/reader.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "core/support/error.h"
#include "core/support/file.h"
#include "espdl_generated.h"
#include "export/espdl/container.h"

namespace espq {
namespace {

using flatbuffers::Offset;
using flatbuffers::Vector;

/// Field tables seen while reading, to tell which sharing rule the writer followed.
class VtableObserver {
 public:
  /// Any generated table type; they hide their common base.
  void note(const void* table) {
    const auto* vtable =
        reinterpret_cast<const flatbuffers::voffset_t*>(static_cast<const flatbuffers::Table*>(table)->GetVTable());
    if (!seen_.insert(vtable).second) return;
    const size_t count = vtable[0] / sizeof(flatbuffers::voffset_t);
    const std::vector<uint16_t> fields(vtable + std::min<size_t>(2, count), vtable + count);
    const auto [known, fresh] = object_size_.emplace(fields, vtable[1]);
    if (!fresh && known->second != vtable[1]) differ_in_size_only_ = true;
  }
  bool differ_in_size_only() const { return differ_in_size_only_; }

 private:
  std::set<const flatbuffers::voffset_t*> seen_;
  std::map<std::vector<uint16_t>, uint16_t> object_size_;
  bool differ_in_size_only_ = false;
};

static_assert(FLATBUFFERS_LITTLEENDIAN, "vectors are copied bytewise");

/// Copies a verified payload into the mirror.
class PayloadReader {
 public:
  PayloadReader(const uint8_t* data, size_t size, const std::string& source)
      : data_(data), size_(size), budget_(8 * size + 4096), source_(source) {}

  EspdlModel read();

 private:
  const uint8_t* data_;
  size_t size_;
  /// Objects of a written file do not overlap (value infos are met up to three times), so copying them takes a small
  /// multiple of the file; a hostile file that refers to one object many times is refused instead of eating memory.
  size_t budget_;
  const std::string& source_;
  VtableObserver vtables_;
  std::vector<std::pair<const void*, EspdlObject>> objects_;

  template <typename... Args>
  void check(bool condition, fmt::format_string<Args...> format, Args&&... args) const {
    if (!condition) user_error("{}: {}", source_, fmt::format(format, std::forward<Args>(args)...));
  }
  void spend(size_t bytes) {
    check(bytes <= budget_, "refers to the same data many times, no writer does that: the file is damaged");
    budget_ -= bytes;
  }

  std::string text(const flatbuffers::String* string) {
    if (!string) return {};
    spend(string->size() + sizeof(flatbuffers::uoffset_t));
    return string->str();
  }
  std::optional<std::string> optional_text(const flatbuffers::String* string) {
    return string ? std::optional(text(string)) : std::nullopt;
  }
  std::vector<std::string> texts(const Vector<Offset<flatbuffers::String>>* strings) {
    std::vector<std::string> result;
    if (strings)
      for (const auto* string : *strings) result.push_back(text(string));
    return result;
  }
  template <typename T>
  std::vector<T> numbers(const Vector<T>* vector) {
    if (!vector) return {};
    spend(vector->size() * sizeof(T));
    // Copied bytewise: the verifier does not check the alignment of elements.
    std::vector<T> result(vector->size());
    if (!result.empty()) std::memcpy(result.data(), vector->Data(), result.size() * sizeof(T));
    return result;
  }

  /// Reads every element of a vector of tables.
  template <typename T, typename Read>
  auto each(const Vector<Offset<T>>* vector, Read read) {
    std::vector<decltype(read(vector->Get(0)))> result;
    if (!vector) return result;
    spend(vector->size() * sizeof(flatbuffers::uoffset_t));
    for (const T* item : *vector) {
      vtables_.note(item);
      result.push_back(read(item));
    }
    return result;
  }
  /// The same, and remembers where each object lies.
  template <typename T, typename Read>
  auto each_object(const Vector<Offset<T>>* vector, EspdlObject::Kind kind, Read read) {
    if (vector)
      for (flatbuffers::uoffset_t i = 0; i < vector->size(); ++i) objects_.push_back({vector->Get(i), {kind, i}});
    return each(vector, read);
  }

  EspdlTypedData typed_data(const schema::Tensor& tensor, const std::string& name);
  EspdlTensor tensor(const schema::Tensor* stored);
  std::vector<EspdlTensor> tensors(const Vector<Offset<schema::Tensor>>* vector, EspdlObject::Kind kind) {
    return each_object(vector, kind, [&](const schema::Tensor* item) { return tensor(item); });
  }
  EspdlAttribute attribute(const schema::Attribute* stored, const std::string& node);
  bool holds_doubles(const schema::Attribute& stored) const;
  EspdlNode node(const schema::Node* stored);
  EspdlDimension dimension(const schema::Dimension* stored);
  EspdlValueInfo value_info(const schema::ValueInfo* stored);
  void graph(const schema::Graph& stored, EspdlModel& model);
  EspdlLayout layout();
};

EspdlTypedData PayloadReader::typed_data(const schema::Tensor& tensor, const std::string& name) {
  EspdlTypedData data;
  int fields = 0;
  const auto take = [&](auto* vector, auto read) {
    if (!vector) return;
    ++fields;
    data = read(vector);
  };
  const auto read_numbers = [&](auto* vector) { return numbers(vector); };
  take(tensor.float_data(), read_numbers);
  take(tensor.int32_data(), read_numbers);
  take(tensor.string_data(), [&](auto* vector) { return texts(vector); });
  take(tensor.int64_data(), read_numbers);
  take(tensor.double_data(), read_numbers);
  take(tensor.uint64_data(), read_numbers);
  check(fields + (tensor.raw_data() ? 1 : 0) <= 1, "tensor '{}' holds its values more than once", name);
  return data;
}

EspdlTensor PayloadReader::tensor(const schema::Tensor* stored) {
  EspdlTensor result;
  result.name = text(stored->name());
  result.dims = numbers(stored->dims());
  result.type = static_cast<ElementType>(stored->data_type());
  result.exponents = numbers(stored->exponents());
  result.doc_string = optional_text(stored->doc_string());
  result.typed = typed_data(*stored, result.name);
  check(!stored->external_data() && stored->data_location() == schema::DataLocation_DEFAULT,
        "tensor '{}' keeps its values in another file, which this format's readers do not follow", result.name);

  uint64_t count = 1;
  for (const int64_t dim : result.dims) {
    check(dim >= 0 && dim <= int64_t{1} << 32, "tensor '{}' has the dimension {}", result.name, dim);
    check(dim == 0 || count <= (uint64_t{1} << 40) / static_cast<uint64_t>(dim), "tensor '{}' is too large",
          result.name);
    count *= static_cast<uint64_t>(dim);
  }
  if (!stored->raw_data()) return result;
  const auto* raw = reinterpret_cast<const char*>(stored->raw_data()->Data());
  const size_t size = size_t{16} * stored->raw_data()->size();
  spend(size);
  result.raw.emplace(raw, size);
  const size_t element = element_size(result.type);
  check(element != 0, "tensor '{}' has raw bytes but the element type {}", result.name, static_cast<int>(result.type));
  check(size == (count * element + 15) / 16 * 16, "tensor '{}': {} bytes do not fit its {} elements of {}", result.name,
        size, count, element_name(result.type));
  return result;
}

/// The name of an attribute is written just before its list, thus ends up just behind it in memory: the room between
/// them tells the size of an element.
bool PayloadReader::holds_doubles(const schema::Attribute& stored) const {
  const size_t count = stored.floats()->size();
  const uint8_t* begin = stored.floats()->Data();
  const auto* name = reinterpret_cast<const uint8_t*>(stored.doc_string() ? stored.doc_string() : stored.name());
  if (count == 0 || name < begin) return false;
  const auto room = static_cast<size_t>(name - begin);
  return room == 8 * count || room == 8 * count + 4;
}

EspdlAttribute PayloadReader::attribute(const schema::Attribute* stored, const std::string& node) {
  EspdlAttribute result;
  result.name = text(stored->name());
  result.doc_string = optional_text(stored->doc_string());
  const auto present = [&](const auto* field) {
    check(field != nullptr, "node '{}': attribute '{}' has no value of its declared type", node, result.name);
    return field;
  };
  switch (stored->attr_type()) {
    case schema::AttributeType_FLOAT:
      result.value = present(stored->f())->f();
      break;
    case schema::AttributeType_INT:
      result.value = present(stored->i())->i();
      break;
    case schema::AttributeType_STRING: {
      const auto bytes = numbers(present(stored->s()));
      result.value = std::string(bytes.begin(), bytes.end());
      break;
    }
    case schema::AttributeType_TENSOR:
      vtables_.note(present(stored->t()));
      result.value = tensor(stored->t());
      break;
    case schema::AttributeType_FLOATS:
      result.stored_as_doubles = holds_doubles(*(present(stored->floats()), stored));
      if (result.stored_as_doubles) {
        std::vector<double> doubles(stored->floats()->size());
        std::memcpy(doubles.data(), stored->floats()->Data(), 8 * doubles.size());
        result.value = std::vector<float>(doubles.begin(), doubles.end());
      } else {
        result.value = numbers(stored->floats());
      }
      break;
    case schema::AttributeType_INTS:
      result.value = numbers(present(stored->ints()));
      break;
    case schema::AttributeType_STRINGS:
      result.value = texts(present(stored->strings()));
      break;
    default:
      user_error("{}: node '{}': attribute '{}' is of kind {}, which no operator of the chip library uses", source_,
                 node, result.name, static_cast<int>(stored->attr_type()));
  }
  return result;
}

EspdlNode PayloadReader::node(const schema::Node* stored) {
  EspdlNode result;
  result.name = text(stored->name());
  result.op_type = text(stored->op_type());
  result.domain = optional_text(stored->domain());
  result.inputs = texts(stored->input());
  result.outputs = texts(stored->output());
  result.doc_string = optional_text(stored->doc_string());
  result.attributes =
      each(stored->attribute(), [&](const schema::Attribute* item) { return attribute(item, result.name); });
  return result;
}

EspdlDimension PayloadReader::dimension(const schema::Dimension* stored) {
  EspdlDimension result;
  if (!stored->value()) {
    result.kind = EspdlDimension::Kind::Unknown;
    return result;
  }
  vtables_.note(stored->value());
  result.kind = static_cast<EspdlDimension::Kind>(stored->value()->dim_type());
  result.value = stored->value()->dim_value();
  result.parameter = text(stored->value()->dim_param());
  check(result.kind >= EspdlDimension::Kind::Unknown && result.kind <= EspdlDimension::Kind::Parameter,
        "a dimension is of kind {}", static_cast<int>(result.kind));
  return result;
}

EspdlValueInfo PayloadReader::value_info(const schema::ValueInfo* stored) {
  EspdlValueInfo result;
  result.name = text(stored->name());
  result.doc_string = optional_text(stored->doc_string());
  result.exponents = numbers(stored->exponents());
  const schema::TypeInfo* type = stored->value_info_type();
  if (!type) return result;
  vtables_.note(type);
  if (type->value_type() == schema::TypeInfoValue_NONE) return result;
  check(type->value_type() == schema::TypeInfoValue_tensor_type && type->value(), "value '{}' is not a tensor",
        result.name);
  const schema::TensorTypeAndShape* tensor = type->value_as_tensor_type();
  vtables_.note(tensor);
  result.type = static_cast<ElementType>(tensor->elem_type());
  if (!tensor->shape()) return result;
  vtables_.note(tensor->shape());
  result.shape = each(tensor->shape()->dim(), [&](const schema::Dimension* item) { return dimension(item); });
  return result;
}

void PayloadReader::graph(const schema::Graph& stored, EspdlModel& model) {
  using Kind = EspdlObject::Kind;
  vtables_.note(&stored);
  const auto info = [&](const schema::ValueInfo* item) { return value_info(item); };
  model.graph_name = text(stored.name());
  model.graph_doc_string = optional_text(stored.doc_string());
  model.nodes = each_object(stored.node(), Kind::Node, [&](const schema::Node* item) { return node(item); });
  model.initializers = tensors(stored.initializer(), Kind::Initializer);
  model.value_infos = each_object(stored.value_info(), Kind::ValueInfo, info);
  model.inputs = each(stored.input(), info);
  model.outputs = each(stored.output(), info);
  model.test_inputs = tensors(stored.test_inputs_value(), Kind::TestInput);
  model.test_outputs = tensors(stored.test_outputs_value(), Kind::TestOutput);
  check(!stored.quantization_annotation() || stored.quantization_annotation()->size() == 0,
        "has quantization annotations, which this format's runtime does not read");
}

EspdlLayout PayloadReader::layout() {
  std::stable_sort(objects_.begin(), objects_.end(),
                   [](const auto& a, const auto& b) { return std::greater<>{}(a.first, b.first); });
  EspdlLayout result;
  for (const auto& [address, object] : objects_) result.order.push_back(object);
  // Both rules give the same bytes unless two field tables could differ in size only; a file that has such a pair was
  // written by the rule that keeps them apart.
  result.vtables_ignore_size = !vtables_.differ_in_size_only();
  return result;
}

EspdlModel PayloadReader::read() {
  flatbuffers::Verifier::Options limits;
  limits.max_depth = 32;
  limits.max_tables = static_cast<flatbuffers::uoffset_t>(std::min<size_t>(size_ / 4 * 3 + 16, 10'000'000));
  flatbuffers::Verifier verifier(data_, size_, limits);
  check(size_ >= 8 && size_ < FLATBUFFERS_MAX_BUFFER_SIZE && verifier.VerifyBuffer<schema::Model>(nullptr),
        "the model's structure is damaged (wrong key, truncated or overwritten file)");
  const schema::Model* stored = flatbuffers::GetRoot<schema::Model>(data_);
  vtables_.note(stored);
  check(stored->graph() != nullptr, "holds no graph");
  check(!stored->functions() || stored->functions()->size() == 0,
        "holds functions, which this format's runtime does not read");

  EspdlModel model;
  model.ir_version = stored->ir_version();
  model.opset_imports = each(stored->opset_import(), [&](const schema::OperatorSetId* item) {
    return std::pair<std::string, int64_t>(text(item->domain()), item->version());
  });
  model.producer_name = optional_text(stored->producer_name());
  model.producer_version = optional_text(stored->producer_version());
  model.domain = optional_text(stored->domain());
  model.doc_string = optional_text(stored->doc_string());
  model.model_version = stored->model_version();
  model.metadata = each(stored->metadata_props(), [&](const schema::StringStringEntry* item) {
    return std::pair<std::string, std::string>(text(item->key()), text(item->value()));
  });
  graph(*stored->graph(), model);
  model.layout = layout();
  return model;
}

}  // namespace

EspdlModel read_payload(std::string_view payload, const std::string& source) {
  // A copy at the alignment that the format promises, whatever the caller's bytes lie on.
  struct alignas(16) Block {
    uint8_t bytes[16];
  };
  std::vector<Block> aligned((payload.size() + 15) / 16);
  if (!payload.empty()) std::memcpy(aligned.data(), payload.data(), payload.size());
  return PayloadReader(reinterpret_cast<const uint8_t*>(aligned.data()), payload.size(), source).read();
}

EspdlModel read_espdl(std::string_view bytes, const EspdlReadOptions& options) {
  const Container container = list_container(bytes, options.source);
  const ContainerEntry& entry = select_entry(container, options.entry, options.source);
  const std::string source = entry.name.empty() ? options.source : options.source + ":" + entry.name;
  return read_payload(open_envelope(entry.bytes, options.key ? &*options.key : nullptr, source), source);
}

EspdlModel read_espdl_file(const std::filesystem::path& file, EspdlReadOptions options) {
  options.source = file.string();
  return read_espdl(read_file(file), options);
}

}  // namespace espq
