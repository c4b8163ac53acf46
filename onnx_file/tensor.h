#pragma once
#include <ATen/core/Tensor.h>

#include <optional>

#include "onnx_file/model.h"

namespace espq::onnx_file {

/// Element type that a tensor of the file has in a graph. The chips know no other floating type than float32, so
/// float16, bfloat16 and double become float32. nullopt: text and what espq does not read.
std::optional<at::ScalarType> scalar_type(ElementType type);
/// Element type of the file for a tensor of a graph. Throws UserError for types that ONNX lacks.
ElementType element_type(at::ScalarType type);

/// A contiguous copy, floats as float32. Throws UserError naming the tensor when no type of a graph stands for its own.
at::Tensor to_tensor(const Tensor& tensor);
/// Any strides and device; the name is left empty.
Tensor from_tensor(const at::Tensor& tensor);

}  // namespace espq::onnx_file
