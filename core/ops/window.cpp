#include "core/ops/window.h"

#include <ATen/ATen.h>

#include "core/support/error.h"

namespace espq {
namespace {

std::vector<int64_t> spatial_list(const Operation& operation, const char* key, size_t rank) {
  std::vector<int64_t> list = operation.ints_attribute(key, std::vector<int64_t>(rank, 1));
  user_check(list.size() == rank, "operation '{}' ({}): attribute '{}' has {} entries, the input has {} spatial axes",
             operation.name(), operation.type(), key, list.size(), rank);
  for (int64_t value : list)
    user_check(value > 0, "operation '{}' ({}): attribute '{}' must be positive", operation.name(), operation.type(),
               key);
  return list;
}

/// SAME: the output has ceil(input / stride) elements; an odd element of padding goes behind (UPPER) or in front
/// (LOWER).
void pad_same(Window& window, at::IntArrayRef input, bool upper) {
  for (size_t axis = 0; axis < window.rank(); ++axis) {
    const int64_t length = input[axis + 2], stride = window.strides[axis];
    const int64_t outputs = (length + stride - 1) / stride;
    const int64_t total = std::max<int64_t>(0, (outputs - 1) * stride + window.reach(axis) - length);
    window.begin[axis] = upper ? total / 2 : total - total / 2;
    window.end[axis] = total - window.begin[axis];
  }
}

}  // namespace

bool Window::dilated() const {
  return std::any_of(dilations.begin(), dilations.end(), [](int64_t value) { return value != 1; });
}

bool Window::padded() const {
  const auto nonzero = [](int64_t value) { return value != 0; };
  return std::any_of(begin.begin(), begin.end(), nonzero) || std::any_of(end.begin(), end.end(), nonzero);
}

std::vector<int64_t> Window::pads() const {
  std::vector<int64_t> pads = begin;
  pads.insert(pads.end(), end.begin(), end.end());
  return pads;
}

Window read_window(const Operation& operation, at::IntArrayRef input, std::vector<int64_t> kernel) {
  const size_t rank = kernel.size();
  user_check(rank >= 1 && input.size() == rank + 2,
             "operation '{}' ({}): a kernel with {} spatial axes does not fit an input of {} dimensions",
             operation.name(), operation.type(), rank, input.size());
  Window window;
  window.kernel = std::move(kernel);
  window.strides = spatial_list(operation, "strides", rank);
  window.dilations = spatial_list(operation, "dilations", rank);
  const std::vector<int64_t> pads = operation.ints_attribute("pads", std::vector<int64_t>(2 * rank, 0));
  user_check(pads.size() == 2 * rank, "operation '{}' ({}): attribute 'pads' has {} entries, {} are needed",
             operation.name(), operation.type(), pads.size(), 2 * rank);
  window.begin.assign(pads.begin(), pads.begin() + rank);
  window.end.assign(pads.begin() + rank, pads.end());
  const std::string mode = operation.string_attribute("auto_pad", "NOTSET");
  if (mode == "SAME_UPPER" || mode == "SAME_LOWER") {
    pad_same(window, input, mode == "SAME_UPPER");
  } else if (mode == "VALID") {
    window.begin.assign(rank, 0);
    window.end.assign(rank, 0);
  } else {
    user_check(mode == "NOTSET" || mode.empty(), "operation '{}' ({}): unknown auto_pad '{}'", operation.name(),
               operation.type(), mode);
  }
  return window;
}

std::vector<int64_t> closed_end(const Window& window, at::IntArrayRef input, bool ceil_mode) {
  std::vector<int64_t> end = window.end;
  if (!ceil_mode) return end;
  for (size_t axis = 0; axis < window.rank(); ++axis) {
    const int64_t length = input[axis + 2], stride = window.strides[axis];
    const int64_t room = length + window.begin[axis] + end[axis] - window.reach(axis);
    int64_t outputs = (room + stride - 1) / stride + 1;
    if ((outputs - 1) * stride >= length + window.begin[axis]) --outputs;
    if (outputs != room / stride + 1)
      end[axis] = (outputs - 1) * stride + window.reach(axis) - length - window.begin[axis];
  }
  return end;
}

at::Tensor pad_spatial(const at::Tensor& input, const std::vector<int64_t>& begin, const std::vector<int64_t>& end,
                       double fill) {
  std::vector<int64_t> amounts;  // innermost dimension first
  bool any = false, crops = false;
  for (size_t axis = begin.size(); axis-- > 0;) {
    amounts.push_back(begin[axis]);
    amounts.push_back(end[axis]);
    any |= begin[axis] != 0 || end[axis] != 0;
    crops |= begin[axis] < 0 || end[axis] < 0;
  }
  if (!any) return input;
  if (crops || input.requires_grad()) return at::constant_pad_nd(input, amounts, fill);
  // LibTorch fills the whole result before it copies the input there.
  std::vector<int64_t> shape = input.sizes().vec();
  for (size_t axis = 0; axis < begin.size(); ++axis) shape[axis + 2] += begin[axis] + end[axis];
  at::Tensor result = at::empty(shape, input.options(), input.suggest_memory_format()), inside = result;
  for (size_t axis = 0; axis < begin.size(); ++axis) {
    const auto dimension = static_cast<int64_t>(axis) + 2;
    if (begin[axis] > 0) inside.narrow(dimension, 0, begin[axis]).fill_(fill);
    if (end[axis] > 0) inside.narrow(dimension, shape[dimension] - end[axis], end[axis]).fill_(fill);
    inside = inside.narrow(dimension, begin[axis], input.size(dimension));
  }
  inside.copy_(input);
  return result;
}

}  // namespace espq
