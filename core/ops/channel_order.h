#pragma once
#include <ATen/core/Tensor.h>

namespace espq {

// [N, spatial..., C] and [N, C, spatial...] as views of one another; tensors with other numbers of axes than 3 and 4
// have one order only.
inline at::Tensor channels_first(const at::Tensor& value) {
  if (value.dim() == 4) return value.permute({0, 3, 1, 2});
  return value.dim() == 3 ? value.permute({0, 2, 1}) : value;
}
inline at::Tensor channels_last(const at::Tensor& value) {
  if (value.dim() == 4) return value.permute({0, 2, 3, 1});
  return value.dim() == 3 ? value.permute({0, 2, 1}) : value;
}

}  // namespace espq
