#include "onnx_file/tensor.h"

#include <cstring>

#include "core/support/error.h"

namespace espq::onnx_file {
namespace {

struct TypePair {
  ElementType file;
  at::ScalarType memory;
  bool lifted = false;  ///< floating types that become float32
};
constexpr TypePair kTypes[] = {
    {ElementType::Float, at::kFloat},        {ElementType::Double, at::kDouble, true},
    {ElementType::Float16, at::kHalf, true}, {ElementType::Bfloat16, at::kBFloat16, true},
    {ElementType::Int8, at::kChar},          {ElementType::Uint8, at::kByte},
    {ElementType::Int16, at::kShort},        {ElementType::Int32, at::kInt},
    {ElementType::Uint16, at::kUInt16},      {ElementType::Uint32, at::kUInt32},
    {ElementType::Uint64, at::kUInt64},      {ElementType::Int64, at::kLong},
    {ElementType::Bool, at::kBool},
};

const TypePair* find_type(ElementType type) {
  const auto found = std::find_if(std::begin(kTypes), std::end(kTypes), [&](auto& pair) { return pair.file == type; });
  return found == std::end(kTypes) ? nullptr : found;
}

}  // namespace

std::optional<at::ScalarType> scalar_type(ElementType type) {
  const TypePair* pair = find_type(type);
  if (!pair) return std::nullopt;
  return pair->lifted ? at::kFloat : pair->memory;
}

ElementType element_type(at::ScalarType type) {
  for (const TypePair& pair : kTypes)
    if (pair.memory == type) return pair.file;
  user_error("ONNX has no element type for {}", c10::toString(type));
}

at::Tensor to_tensor(const Tensor& tensor) {
  const TypePair* pair = find_type(tensor.type);
  user_check(pair, "tensor '{}' has element type {}, which espq does not support", tensor.name,
             element_name(tensor.type));
  at::Tensor result = at::empty(tensor.dims, pair->memory);
  internal_check(result.nbytes() == tensor.bytes.size(), "tensor '" + tensor.name + "' has passed the reader");
  if (!tensor.bytes.empty()) std::memcpy(result.mutable_data_ptr(), tensor.bytes.data(), tensor.bytes.size());
  return pair->lifted ? result.to(at::kFloat) : result;
}

Tensor from_tensor(const at::Tensor& tensor) {
  const at::Tensor plain = tensor.detach().cpu().contiguous();
  Tensor result;
  result.type = element_type(plain.scalar_type());
  result.dims = plain.sizes().vec();
  result.bytes.assign(static_cast<const char*>(plain.const_data_ptr()), plain.nbytes());
  return result;
}

}  // namespace espq::onnx_file
