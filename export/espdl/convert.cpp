#include "export/espdl/convert.h"

#include <ATen/ATen.h>

#include <array>
#include <cstring>

#include "core/support/error.h"
#include "export/espdl/chip_attributes.h"
#include "export/espdl/packing.h"

namespace espq {
namespace {

constexpr std::array<std::pair<at::ScalarType, ElementType>, 9> kTypes{{{at::kFloat, ElementType::Float},
                                                                        {at::kByte, ElementType::Uint8},
                                                                        {at::kChar, ElementType::Int8},
                                                                        {at::kShort, ElementType::Int16},
                                                                        {at::kInt, ElementType::Int32},
                                                                        {at::kLong, ElementType::Int64},
                                                                        {at::kBool, ElementType::Bool},
                                                                        {at::kHalf, ElementType::Float16},
                                                                        {at::kDouble, ElementType::Double}}};

/// Values that are not raw bytes.
at::Tensor typed_tensor(const EspdlTensor& stored, at::ScalarType dtype) {
  const auto numbers = [&](const auto& values, at::ScalarType stored_as) {
    user_check(static_cast<int64_t>(values.size()) == stored.element_count(), "tensor '{}': {} values for {} elements",
               stored.name, values.size(), stored.element_count());
    at::Tensor result = at::empty(stored.dims, stored_as);
    if (!values.empty()) std::memcpy(result.mutable_data_ptr(), values.data(), values.size() * sizeof(values[0]));
    return result.to(dtype);
  };
  if (const auto* floats = std::get_if<std::vector<float>>(&stored.typed)) return numbers(*floats, at::kFloat);
  if (const auto* integers = std::get_if<std::vector<int32_t>>(&stored.typed)) return numbers(*integers, at::kInt);
  if (const auto* integers = std::get_if<std::vector<int64_t>>(&stored.typed)) return numbers(*integers, at::kLong);
  if (const auto* doubles = std::get_if<std::vector<double>>(&stored.typed)) return numbers(*doubles, at::kDouble);
  user_check(stored.element_count() == 0, "tensor '{}' has no values", stored.name);
  return at::empty(stored.dims, dtype);
}

at::Tensor with_shape(const EspdlTensor& stored, at::IntArrayRef shape) {
  const at::ScalarType dtype = scalar_type(stored.type);
  if (!stored.raw) return typed_tensor(stored, dtype).reshape(shape);
  at::Tensor result = at::empty(shape, dtype);
  const std::string_view bytes = stored.bytes();
  if (!bytes.empty()) std::memcpy(result.mutable_data_ptr(), bytes.data(), bytes.size());
  return result;
}

const std::string* string_attribute(const EspdlNode& node, std::string_view key) {
  const EspdlAttribute* attribute = node.find_attribute(key);
  return attribute ? std::get_if<std::string>(&attribute->value) : nullptr;
}

}  // namespace

ElementType espdl_type(at::ScalarType dtype) {
  for (const auto& [torch_type, type] : kTypes)
    if (torch_type == dtype) return type;
  user_error("tensors of type {} cannot be stored in .espdl", at::toString(dtype));
}

at::ScalarType scalar_type(ElementType type) {
  for (const auto& [torch_type, candidate] : kTypes)
    if (candidate == type) return torch_type;
  user_error("tensors of type {} are not supported", element_name(type));
}

at::Tensor to_tensor(const EspdlTensor& stored) { return with_shape(stored, stored.dims); }

at::Tensor to_tensor(const EspdlTensor& stored, const EspdlNode* reader, size_t slot, bool vector_unit) {
  if (!reader) return to_tensor(stored);
  const std::string* word = string_attribute(*reader, "quant_type");
  const Width kernels = word ? parse_kernels(*word).value_or(Width::Float) : Width::Float;
  const EspdlAttribute* group = reader->find_attribute("group");
  const int64_t* groups = group ? std::get_if<int64_t>(&group->value) : nullptr;
  const WeightFormat format =
      weight_format(operators().find(reader->op_type), slot, kernels, groups ? *groups : 1, vector_unit);
  if (format.packing == WeightPacking::None) return to_tensor(stored);
  const std::string where = fmt::format("{} '{}', tensor '{}'", reader->op_type, reader->name, stored.name);
  return unpack_weight(format, with_shape(stored, {stored.element_count()}), plain_shape(format, stored.dims, where));
}

namespace {

/// Test values without dimensions are written with one (to_model).
at::Tensor test_value(const EspdlModel& model, const EspdlTensor& stored) {
  const at::Tensor value = to_tensor(stored);
  const EspdlValueInfo* info = model.find_value_info(stored.name);
  return info && info->shape && info->shape->empty() && value.numel() == 1 ? value.reshape({}) : value;
}

}  // namespace

TestValues test_values(const EspdlModel& model) {
  TestValues values;
  for (const EspdlTensor& tensor : model.test_inputs)
    values.inputs.emplace_back(tensor.name, test_value(model, tensor));
  for (const EspdlTensor& tensor : model.test_outputs)
    values.outputs.emplace_back(tensor.name, test_value(model, tensor));
  return values;
}

bool has_vector_layout(const EspdlModel& model) {
  for (const EspdlTensor& tensor : model.initializers)
    for (const char* layout : {"NHWC", "NWC", "HWCN", "WCN"})
      if (tensor.doc_string == std::string("layout ==> ") + layout) return false;
  return true;
}

const Target& infer_target(const EspdlModel& model) {
  if (const std::string* name = model.find_metadata("target")) return find_target(*name);
  if (!has_vector_layout(model)) return find_target("c");
  for (const EspdlTensor& tensor : model.initializers)
    if (tensor.exponents.size() > 1) return find_target("esp32p4");
  user_error(
      "the file does not say which chip it is for (nothing in it differs between esp32s3 and esp32p4): give --target");
}

}  // namespace espq
