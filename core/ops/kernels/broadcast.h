#pragma once
#include <ATen/Parallel.h>

#include <functional>
#include <vector>

#include "core/ops/operator.h"

namespace espq {

/// Two operands broadcast against each other, with neighbouring axes merged as the chip library merges them: its
/// kernels choose their arithmetic by the innermost merged axis.
struct Broadcast {
  Shape shape;                                 ///< of the result, not merged
  std::vector<int64_t> left, right, result;    ///< merged axis sizes, outermost first, at least one axis
  std::vector<int64_t> left_step, right_step;  ///< elements to advance per index of a merged axis; 0 = repeated

  Broadcast(at::IntArrayRef left_shape, at::IntArrayRef right_shape);
  int64_t inner() const { return result.back(); }
  int64_t inner_left() const { return left.back(); }
  int64_t inner_right() const { return right.back(); }
  int64_t size() const;
  /// Offsets of the innermost row with that number in the two operands.
  std::pair<int64_t, int64_t> row_offsets(int64_t row) const;
};

/// One row; the usual strides get loops of their own, which the compiler turns into vector code.
template <typename Function, typename Result>
void apply_row(const float* a, int64_t step_a, const float* b, int64_t step_b, Result* out, int64_t count,
               Function function) {
  if (step_a == 1 && step_b == 1) {
    for (int64_t i = 0; i < count; ++i) out[i] = function(a[i], b[i]);
  } else if (step_a == 1 && step_b == 0) {
    for (int64_t i = 0; i < count; ++i) out[i] = function(a[i], *b);
  } else if (step_a == 0 && step_b == 1) {
    for (int64_t i = 0; i < count; ++i) out[i] = function(*a, b[i]);
  } else {
    for (int64_t i = 0; i < count; ++i) out[i] = function(a[i * step_a], b[i * step_b]);
  }
}

/// The operand has one element, or lies in memory exactly as `like` does: one pass over memory serves both.
bool in_step_with(const at::Tensor& operand, const at::Tensor& like);

/// result[i] = function(left[i], right[i]) over all elements of the broadcast, in parallel.
template <typename Function>
at::Tensor apply(const Broadcast& broadcast, const at::Tensor& left, const at::Tensor& right, Function function,
                 at::ScalarType dtype = at::kFloat) {
  const at::Tensor& larger = left.numel() < right.numel() ? right : left;
  if (dtype == at::kFloat && larger.is_non_overlapping_and_dense() && larger.sizes().equals(broadcast.shape) &&
      in_step_with(left, larger) && in_step_with(right, larger)) {
    at::Tensor result = at::empty_like(larger);
    const float *in_a = left.const_data_ptr<float>(), *in_b = right.const_data_ptr<float>();
    float* out = result.mutable_data_ptr<float>();
    const int64_t step_a = left.numel() > 1, step_b = right.numel() > 1;
    at::parallel_for(0, larger.numel(), 1 << 15, [&](int64_t begin, int64_t end) {
      apply_row(in_a + begin * step_a, step_a, in_b + begin * step_b, step_b, out + begin, end - begin, function);
    });
    return result;
  }
  const at::Tensor a = left.contiguous(), b = right.contiguous();
  at::Tensor result = at::empty(broadcast.shape, a.options().dtype(dtype));
  const float* pa = a.const_data_ptr<float>();
  const float* pb = b.const_data_ptr<float>();
  const int64_t length = broadcast.inner(), step_a = broadcast.left_step.back(), step_b = broadcast.right_step.back();
  const auto run = [&](auto* out) {
    at::parallel_for(0, broadcast.size(), 1 << 15, [&](int64_t begin, int64_t end) {
      while (begin < end) {
        const int64_t row = begin / length, first = begin % length, last = std::min(length, first + end - begin);
        const auto [offset_a, offset_b] = broadcast.row_offsets(row);
        apply_row(pa + offset_a + first * step_a, step_a, pb + offset_b + first * step_b, step_b,
                  out + row * length + first, last - first, function);
        begin += last - first;
      }
    });
  };
  if (dtype == at::kBool) {
    run(result.data_ptr<bool>());
  } else {
    run(result.data_ptr<float>());
  }
  return result;
}

}  // namespace espq
