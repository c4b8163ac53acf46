#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/support/element_type.h"

namespace espq {

/// Values of a tensor that are not stored as raw bytes; the file holds empty tensors this way.
using EspdlTypedData = std::variant<std::monostate, std::vector<float>, std::vector<int32_t>, std::vector<std::string>,
                                    std::vector<int64_t>, std::vector<double>, std::vector<uint64_t>>;

/// A stored tensor. Bytes are little-endian and zero-padded to a multiple of 16.
struct EspdlTensor {
  std::string name = {};
  std::vector<int64_t> dims = {};
  ElementType type = ElementType::Undefined;
  std::vector<int64_t> exponents = {};         ///< value = integer * 2^exponent; one, or one per output channel
  std::optional<std::string> doc_string = {};  ///< "layout ==> X" on parameters
  std::optional<std::string> raw = {};
  EspdlTypedData typed = {};

  int64_t element_count() const;
  /// The stored elements without the padding. Empty for typed data.
  std::string_view bytes() const;
  bool operator==(const EspdlTensor&) const = default;
};

/// Zero-pads to a multiple of 16, as `raw` wants it.
std::string pad_to_blocks(std::string bytes);

struct EspdlAttribute {
  std::string name = {};
  std::variant<int64_t, float, std::string, EspdlTensor, std::vector<float>, std::vector<int64_t>,
               std::vector<std::string>>
      value = int64_t{0};
  /// Lists of floats are stored as 8-byte doubles: a defect of esp-ppq 1.3.12 and older, which no chip operator meets.
  /// The reader sets it when it finds such a list, and re-writing keeps it.
  bool stored_as_doubles = false;
  std::optional<std::string> doc_string = {};
  bool operator==(const EspdlAttribute&) const = default;
};

struct EspdlNode {
  std::string name = {}, op_type = {};
  std::optional<std::string> domain = {};
  std::vector<std::string> inputs = {}, outputs = {};  ///< an omitted operand is an empty name
  std::vector<EspdlAttribute> attributes = {};         ///< in byte order of the name
  std::optional<std::string> doc_string = {};

  const EspdlAttribute* find_attribute(std::string_view key) const;
  bool operator==(const EspdlNode&) const = default;
};

struct EspdlDimension {
  enum class Kind : int8_t { Unknown = 0, Value = 1, Parameter = 2 } kind = Kind::Value;
  int64_t value = 0;
  std::string parameter = {};
  bool operator==(const EspdlDimension&) const = default;
};

/// Type of an activation.
struct EspdlValueInfo {
  std::string name = {};
  ElementType type = ElementType::Undefined;
  std::optional<std::vector<EspdlDimension>> shape = {};  ///< nullopt = not recorded
  std::vector<int64_t> exponents = {};
  std::optional<std::string> doc_string = {};
  bool operator==(const EspdlValueInfo&) const = default;
};

/// One object of the file, by kind and position in the model's vector of that kind.
struct EspdlObject {
  enum class Kind { Initializer, Node, ValueInfo, TestInput, TestOutput } kind;
  size_t index = 0;
  bool operator==(const EspdlObject&) const = default;
};

/// What of a file's bytes the objects themselves do not determine.
struct EspdlLayout {
  /// Order in which the objects were created; first created lies at the highest address.
  std::vector<EspdlObject> order = {};
  /// Older writers shared the field tables of two objects even when their sizes differ.
  bool vtables_ignore_size = false;
  bool operator==(const EspdlLayout&) const = default;
};

/// The contents of one .espdl payload, field by field; needs no LibTorch.
/// Not mirrored, and refused by the reader when present: functions, quantization annotations, sub-graphs and type
/// attributes, sequence and map types. No writer of this format and no chip operator uses them.
struct EspdlModel {
  int32_t ir_version = 8;
  std::vector<std::pair<std::string, int64_t>> opset_imports;
  std::optional<std::string> producer_name, producer_version, domain, doc_string;
  int64_t model_version = 0;
  std::vector<std::pair<std::string, std::string>> metadata;

  std::string graph_name;
  std::optional<std::string> graph_doc_string;
  std::vector<EspdlNode> nodes;  ///< in execution order
  std::vector<EspdlTensor> initializers;
  std::vector<EspdlValueInfo> inputs = {}, outputs;
  std::vector<EspdlValueInfo> value_infos;  ///< every activation, graph inputs and outputs included
  std::vector<EspdlTensor> test_inputs, test_outputs;

  /// Set by the reader. The writer follows it when it is set; without it the writer chooses: tables (initializers that
  /// no node reads), nodes, value_infos, other initializers, test inputs, test outputs.
  std::optional<EspdlLayout> layout;

  const EspdlTensor* find_initializer(std::string_view name) const;
  const EspdlValueInfo* find_value_info(std::string_view name) const;
  /// nullptr when the key is missing.
  const std::string* find_metadata(std::string_view key) const;
};

}  // namespace espq
