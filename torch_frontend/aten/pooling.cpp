#include "torch_frontend/aten/families.h"

namespace espq::torch_frontend {
namespace {

using Integers = Call::Integers;

AttributeMap window(const Call& call, size_t axes) {
  const Integers kernel = call.integers("kernel_size", axes), stride = call.integers("stride");
  return {{"kernel_shape", kernel},
          {"strides", stride.empty() ? kernel : call.integers("stride", axes)},
          {"pads", both_ends(call.integers("padding", axes))},
          {"ceil_mode", static_cast<int64_t>(call.flag("ceil_mode"))}};
}

template <size_t axes>
void max_pool(Call& call) {
  const Batched batched(call, "self", axes);
  AttributeMap attributes = window(call, axes);
  const Integers dilation = call.integers("dilation", axes);
  if (dilation != Integers(axes, 1)) attributes["dilations"] = dilation;
  call.result(batched.finish(call.emit("MaxPool", {batched.input}, std::move(attributes))));
}

template <size_t axes>
void average_pool(Call& call) {
  const Batched batched(call, "self", axes);
  AttributeMap attributes = window(call, axes);
  const bool include = call.flag("count_include_pad");
  attributes["count_include_pad"] = static_cast<int64_t>(include);
  double factor = 1;
  if (call.has("divisor_override")) {
    // The divisor is the same everywhere: average over all of the window, then another factor.
    double area = 1;
    for (const int64_t size : call.integers("kernel_size", axes)) area *= static_cast<double>(size);
    attributes["count_include_pad"] = int64_t{1};
    call.check(!call.flag("ceil_mode"), "divisor_override with ceil_mode is not supported");
    factor = area / call.number("divisor_override");
  }
  Variable* result = call.emit("AveragePool", {batched.input}, std::move(attributes));
  if (factor != 1) result = call.emit("Mul", {result, call.scalar(factor)});
  call.result(batched.finish(result));
}

struct Range {
  int64_t start, end;
};

/// The windows into which LibTorch cuts `from` elements.
std::vector<Range> adaptive_windows(int64_t from, int64_t to) {
  std::vector<Range> windows;
  for (int64_t i = 0; i < to; ++i) windows.push_back({i * from / to, ((i + 1) * from + to - 1) / to});
  return windows;
}

/// The matrix that averages `from` elements into `to` windows.
at::Tensor averaging_matrix(int64_t from, int64_t to) {
  at::Tensor matrix = at::zeros({from, to}, at::kFloat);
  int64_t column = 0;
  for (const Range& window : adaptive_windows(from, to))
    matrix.slice(0, window.start, window.end)
        .select(1, column++)
        .fill_(1.0 / static_cast<double>(window.end - window.start));
  return matrix;
}

/// Windows of unequal size: a product with a constant matrix per axis.
Variable* average_by_matrices(const Call& call, Variable* value, const Shape& shape, const Integers& sizes) {
  const size_t first = shape.size() - sizes.size();
  for (size_t axis = 0; axis < sizes.size(); ++axis) {
    Variable* matrix = call.parameter("windows", averaging_matrix(shape[first + axis], sizes[axis]));
    if (axis + 1 == sizes.size()) {
      value = call.emit("MatMul", {value, matrix});
      continue;
    }
    Integers order(shape.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
    std::swap(order[first + axis], order.back());
    value = call.transpose(call.emit("MatMul", {call.transpose(value, order), matrix}), order);
  }
  return value;
}

/// Windows of unequal size: the elements of each in a row, the last one repeated up to the size of the largest window,
/// which no maximum notices. Then all windows are of one size and lie side by side.
Variable* largest_of_windows(const Call& call, Variable* value, const Shape& shape, const Integers& sizes) {
  const size_t first = shape.size() - sizes.size();
  Integers kernel;
  for (size_t axis = 0; axis < sizes.size(); ++axis) {
    const auto windows = adaptive_windows(shape[first + axis], sizes[axis]);
    int64_t size = 0;
    for (const Range& window : windows) size = std::max(size, window.end - window.start);
    kernel.push_back(size);
    Integers indices;
    for (const Range& window : windows)
      for (int64_t i = 0; i < size; ++i) indices.push_back(std::min(window.start + i, window.end - 1));
    if (shape[first + axis] % sizes[axis] == 0) continue;
    value = call.emit("Gather", {value, call.parameter("windows", indices)},
                      {{"axis", static_cast<int64_t>(first + axis)}});
  }
  return call.emit("MaxPool", {value}, {{"kernel_shape", kernel}, {"strides", kernel}});
}

/// Adaptive pools have windows of one size when the output divides the input.
template <size_t axes>
void adaptive(Call& call, bool largest) {
  const Batched batched(call, "self", axes);
  const Shape shape = call.shape("self"), result = call.output_shape();
  const Integers sizes(result.end() - axes, result.end());
  Integers kernel;
  bool single = true, even = true;
  for (size_t axis = 0; axis < axes; ++axis) {
    const int64_t from = shape[shape.size() - axes + axis];
    single = single && sizes[axis] == 1;
    even = even && from % sizes[axis] == 0;
    kernel.push_back(from / sizes[axis]);
  }
  Variable* value = nullptr;
  if (single) {
    value = call.emit(largest ? "GlobalMaxPool" : "GlobalAveragePool", {batched.input});
  } else if (even) {
    value = call.emit(largest ? "MaxPool" : "AveragePool", {batched.input},
                      {{"kernel_shape", kernel}, {"strides", kernel}});
  } else {
    Shape full = shape;
    if (full.size() == axes + 1) full.insert(full.begin(), 1);
    value = (largest ? largest_of_windows : average_by_matrices)(call, batched.input, full, sizes);
  }
  call.result(batched.finish(value));
}
template <size_t axes>
void adaptive_average(Call& call) {
  adaptive<axes>(call, false);
}
template <size_t axes>
void adaptive_max(Call& call) {
  adaptive<axes>(call, true);
}

}  // namespace

void add_pooling(Table& table) {
  const auto put = [&](std::initializer_list<const char*> names, Mapping map, Family family) {
    for (const char* name : names) table[name] = {map, family};
  };
  put({"max_pool1d", "max_pool1d_with_indices"}, max_pool<1>, Family::Movement);
  put({"max_pool2d", "max_pool2d_with_indices"}, max_pool<2>, Family::Movement);
  put({"max_pool3d", "max_pool3d_with_indices"}, max_pool<3>, Family::Movement);
  put({"avg_pool1d"}, average_pool<1>, Family::Product);
  put({"avg_pool2d"}, average_pool<2>, Family::Product);
  put({"avg_pool3d"}, average_pool<3>, Family::Product);
  put({"adaptive_avg_pool1d"}, adaptive_average<1>, Family::Product);
  put({"adaptive_avg_pool2d", "_adaptive_avg_pool2d"}, adaptive_average<2>, Family::Product);
  put({"adaptive_avg_pool3d", "_adaptive_avg_pool3d"}, adaptive_average<3>, Family::Product);
  put({"adaptive_max_pool1d"}, adaptive_max<1>, Family::Movement);
  put({"adaptive_max_pool2d"}, adaptive_max<2>, Family::Movement);
  put({"adaptive_max_pool3d"}, adaptive_max<3>, Family::Movement);
}

}  // namespace espq::torch_frontend
