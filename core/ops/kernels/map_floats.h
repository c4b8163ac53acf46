#pragma once
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

namespace espq {

/// function(value) for every element of a float32 tensor (any dense memory order, which the result shares).
template <typename Function>
at::Tensor map_floats(const at::Tensor& values, Function function) {
  const at::Tensor dense = values.is_non_overlapping_and_dense() ? values : values.contiguous();
  at::Tensor result = at::empty_like(dense);
  const float* in = dense.const_data_ptr<float>();
  float* out = result.mutable_data_ptr<float>();
  at::parallel_for(0, dense.numel(), 1 << 14, [&](int64_t begin, int64_t end) {
    const Function local = function;  // a copy that stores to the result cannot alias
    for (int64_t i = begin; i < end; ++i) out[i] = local(in[i]);
  });
  return result;
}

}  // namespace espq
