#pragma once
#include <cstdint>
#include <vector>

#include "core/ops/operator.h"

// Reading of operands and attributes that kernels share.
namespace espq {

/// True when operand `slot` is there and not omitted.
inline bool has_input(const Tensors& inputs, size_t slot) { return slot < inputs.size() && inputs[slot].defined(); }

/// Elements of an index operand (shape, axes, pads, indices ...) as plain integers, whatever its dtype and device.
std::vector<int64_t> to_integers(const at::Tensor& tensor);

/// Elements of a small operand (scales) as floats.
std::vector<double> to_doubles(const at::Tensor& tensor);

/// Axis in [0, rank). Throws UserError naming the operation when it lies outside [-rank, rank).
int64_t wrap_axis(const Operation& operation, int64_t axis, int64_t rank);

/// wrap_axis for each, order kept. Throws UserError on duplicates.
std::vector<int64_t> wrap_axes(const Operation& operation, std::vector<int64_t> axes, int64_t rank);

/// Storage dtype of an ONNX TensorProto.DataType number (attributes `to`, `dtype`, `output_dtype`). Throws UserError
/// naming the operation for types that LibTorch does not store.
at::ScalarType dtype_of_onnx(const Operation& operation, int64_t code);

/// The first tensor alone in a list: what one-output kernels return.
inline Tensors one(at::Tensor tensor) {
  Tensors result;
  result.push_back(std::move(tensor));
  return result;
}

}  // namespace espq
