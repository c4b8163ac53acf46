#pragma once
#include <ATen/ATen.h>

#include "onnx_file/model.h"
#include "onnx_file/tensor.h"
#include "onnx_frontend/onnx_frontend.h"
#include "tests/user_error.h"

namespace espq::test {

/// Small ONNX files written down in tests, as their protobuf message: what a GraphBuilder (tests/support) cannot be, a
/// file.
struct OnnxModelBuilder {
  onnx_file::Model model;

  explicit OnnxModelBuilder(int64_t opset) {
    model.ir_version = 8;
    model.opsets[""] = opset;
    model.graph_name = "test";
  }

  static onnx_file::Value value(const std::string& name, const Shape& shape, at::ScalarType dtype = at::kFloat) {
    onnx_file::Value result;
    result.name = name;
    result.type = onnx_file::element_type(dtype);
    result.shape.emplace();
    for (const int64_t dim : shape) result.shape->push_back({.value = dim, .parameter = dim < 0 ? "n" : ""});
    return result;
  }
  OnnxModelBuilder& input(const std::string& name, const Shape& shape, at::ScalarType dtype = at::kFloat) {
    model.inputs.push_back(value(name, shape, dtype));
    return *this;
  }
  OnnxModelBuilder& output(const std::string& name) {
    onnx_file::Value result;
    result.name = name;
    result.type = ElementType::Float;
    model.outputs.push_back(result);
    return *this;
  }
  OnnxModelBuilder& constant(const std::string& name, const at::Tensor& tensor) {
    model.initializers.push_back(onnx_file::from_tensor(tensor));
    model.initializers.back().name = name;
    return *this;
  }
  OnnxModelBuilder& node(const std::string& type, const std::string& name, std::vector<std::string> inputs,
                         std::vector<std::string> outputs, std::vector<onnx_file::Attribute> attributes = {}) {
    model.nodes.push_back({name, type, "", std::move(inputs), std::move(outputs), std::move(attributes)});
    return *this;
  }
  std::string bytes() const { return onnx_file::serialize_model(model); }
  Graph import(const OnnxImportOptions& options = {}) const {
    return import_onnx_bytes(bytes(), "model.onnx", ".", options);
  }
};

inline onnx_file::Attribute integer(const std::string& name, int64_t value) {
  onnx_file::Attribute result;
  result.name = name, result.type = onnx_file::Attribute::Type::Int, result.i = value;
  return result;
}
inline onnx_file::Attribute real(const std::string& name, float value) {
  onnx_file::Attribute result;
  result.name = name, result.type = onnx_file::Attribute::Type::Float, result.f = value;
  return result;
}
inline onnx_file::Attribute text(const std::string& name, const std::string& value) {
  onnx_file::Attribute result;
  result.name = name, result.type = onnx_file::Attribute::Type::String, result.s = value;
  return result;
}
inline onnx_file::Attribute integers(const std::string& name, std::vector<int64_t> value) {
  onnx_file::Attribute result;
  result.name = name, result.type = onnx_file::Attribute::Type::Ints, result.ints = std::move(value);
  return result;
}
inline onnx_file::Attribute reals(const std::string& name, std::vector<float> value) {
  onnx_file::Attribute result;
  result.name = name, result.type = onnx_file::Attribute::Type::Floats, result.floats = std::move(value);
  return result;
}
inline onnx_file::Attribute tensor(const std::string& name, const at::Tensor& value) {
  onnx_file::Attribute result;
  result.name = name, result.type = onnx_file::Attribute::Type::Tensor, result.t = onnx_file::from_tensor(value);
  return result;
}

}  // namespace espq::test
