#include "core/ops/kernels/broadcast.h"

#include <ATen/ExpandUtils.h>

namespace espq {
namespace {

Shape padded(at::IntArrayRef shape, size_t rank) {
  Shape result(rank - shape.size(), 1);
  result.insert(result.end(), shape.begin(), shape.end());
  return result;
}

std::vector<int64_t> steps(const std::vector<int64_t>& sizes) {
  std::vector<int64_t> result(sizes.size());
  int64_t step = 1;
  for (size_t i = sizes.size(); i-- > 0;) {
    result[i] = sizes[i] == 1 ? 0 : step;
    step *= sizes[i];
  }
  return result;
}

}  // namespace

bool in_step_with(const at::Tensor& operand, const at::Tensor& like) {
  if (operand.numel() == 1) return true;
  if (!operand.sizes().equals(like.sizes())) return false;
  for (int64_t axis = 0; axis < like.dim(); ++axis)
    if (like.size(axis) > 1 && operand.stride(axis) != like.stride(axis)) return false;
  return true;
}

Broadcast::Broadcast(at::IntArrayRef left_shape, at::IntArrayRef right_shape) {
  shape = at::infer_size(left_shape, right_shape);
  const Shape a = padded(left_shape, shape.size()), b = padded(right_shape, shape.size());
  for (size_t i = 0; i < shape.size(); ++i) {
    const bool merges = !left.empty() && ((left.back() == right.back() && a[i] == b[i]) ||
                                          (left.back() == 1 && a[i] == 1) || (right.back() == 1 && b[i] == 1));
    if (merges) {
      left.back() *= a[i];
      right.back() *= b[i];
      result.back() *= shape[i];
    } else {
      left.push_back(a[i]);
      right.push_back(b[i]);
      result.push_back(shape[i]);
    }
  }
  if (result.empty()) left = right = result = {1};
  left_step = steps(left);
  right_step = steps(right);
}

int64_t Broadcast::size() const {
  int64_t count = 1;
  for (const int64_t extent : result) count *= extent;
  return count;
}

std::pair<int64_t, int64_t> Broadcast::row_offsets(int64_t row) const {
  int64_t a = 0, b = 0;
  for (size_t i = result.size() - 1; i-- > 0;) {
    const int64_t index = row % result[i];
    row /= result[i];
    a += index * left_step[i];
    b += index * right_step[i];
  }
  return {a, b};
}

}  // namespace espq
