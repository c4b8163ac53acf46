#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/support/element_type.h"

/// An ONNX file as plain structs: the only place that knows protobuf, on both ways. No LibTorch here.
namespace espq::onnx_file {

struct Tensor {
  std::string name;
  ElementType type = ElementType::Undefined;
  std::vector<int64_t> dims;  ///< none is negative; the product fits
  std::string bytes;          ///< little-endian, row-major; exactly elements * element_size(type)
  int64_t elements() const;
};

struct Attribute {
  enum class Type { Int, Float, String, Tensor, Ints, Floats, Strings, Other };
  std::string name;
  Type type = Type::Other;  ///< Other: subgraphs, sparse tensors and types, which espq does not read
  int64_t i = 0;
  float f = 0;
  std::string s;
  Tensor t;
  std::vector<int64_t> ints;
  std::vector<float> floats;
  std::vector<std::string> strings;
};

struct Node {
  std::string name, type, domain;
  std::vector<std::string> inputs, outputs;  ///< "" = an omitted optional operand
  std::vector<Attribute> attributes;
};

struct Dimension {
  int64_t value = -1;     ///< < 0: not fixed
  std::string parameter;  ///< its symbolic name, if any
};

struct Value {
  std::string name;
  bool is_tensor = true;  ///< false: sequences, maps, optionals, sparse tensors
  ElementType type = ElementType::Undefined;
  std::optional<std::vector<Dimension>> shape;
};

struct Model {
  int64_t ir_version = 0;
  std::string producer_name, producer_version;
  std::map<std::string, int64_t> opsets;  ///< by domain; the default domain is ""
  std::string graph_name;
  std::vector<Node> nodes;
  std::vector<Tensor> initializers;
  std::vector<Value> inputs, outputs, intermediates;
};

/// Reads a model with its external data. Throws UserError naming the file (and tensor): unreadable, no ONNX model,
/// damaged, tensor sizes that do not fit their data, external data outside the model's folder.
Model read_model(const std::filesystem::path& file);
/// A model from memory; external data is looked for in `folder`. `name` stands in messages.
Model parse_model(std::string_view bytes, const std::string& name, const std::filesystem::path& folder);
/// Reads a lone serialized TensorProto (the .pb files of ONNX's own test data).
Tensor read_tensor(const std::filesystem::path& file);

std::string serialize_model(const Model& model);
/// Written whole or not at all. Throws UserError when the model is too large for one protobuf file (2 GiB).
void write_model(const Model& model, const std::filesystem::path& file);

}  // namespace espq::onnx_file
