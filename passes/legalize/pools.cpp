// Pools: sizes, divisors and windows that the chip library does not know.
#include <ATen/ATen.h>

#include "core/ops/window_limits.h"
#include "passes/legalize/rewriter.h"

namespace espq {
namespace {

/// A window whose padding is resolved and behind which ceil_mode has nothing left to round up.
Window closed_window(Rewriter& rewriter) {
  const Operation& pool = rewriter.origin();
  Window window = read_window(pool, rewriter.shape(0), pool.ints_attribute("kernel_shape"));
  window.end = closed_end(window, rewriter.shape(0), pool.int_attribute("ceil_mode", 0) != 0);
  return window;
}

AttributeMap attributes_of(const Window& window) {
  return {{"kernel_shape", window.kernel},
          {"strides", window.strides},
          {"pads", window.pads()},
          {"auto_pad", std::string("NOTSET")},
          {"ceil_mode", int64_t{0}}};
}

/// Positions that the windows read along one axis, one window behind the other. Padding reads the nearest element that
/// the same window sees: a maximum does not change by seeing one twice.
std::vector<int64_t> window_positions(const Window& window, size_t axis, int64_t length) {
  const int64_t stride = window.strides[axis], dilation = window.dilations[axis];
  const int64_t results = (length + window.begin[axis] + window.end[axis] - window.reach(axis)) / stride + 1;
  std::vector<int64_t> positions;
  for (int64_t i = 0; i < results; ++i) {
    std::vector<int64_t> seen;
    for (int64_t tap = 0; tap < window.kernel[axis]; ++tap) {
      const int64_t position = i * stride - window.begin[axis] + tap * dilation;
      if (position >= 0 && position < length) seen.push_back(position);
    }
    if (seen.empty()) return {};
    for (int64_t tap = 0; tap < window.kernel[axis]; ++tap)
      positions.push_back(seen[std::min<size_t>(tap, seen.size() - 1)]);
  }
  return positions;
}

/// Every window laid out apart, so that it is neither dilated nor padded and strides are kernels.
bool lay_out_windows(Rewriter& rewriter, Window& window) {
  Operation& pool = rewriter.origin();
  const Shape input = rewriter.shape(0);
  std::vector<std::vector<int64_t>> positions;
  for (size_t axis = 0; axis < window.rank(); ++axis) {
    positions.push_back(window_positions(window, axis, input[axis + 2]));
    if (positions.back().empty()) return false;
  }
  for (size_t axis = 0; axis < window.rank(); ++axis) {
    Variable& laid_out =
        rewriter.pick(*pool.input(0), static_cast<int64_t>(axis) + 2, positions[axis], fmt::format("windows{}", axis));
    rewriter.graph().set_input(pool, 0, &laid_out);
  }
  window.strides = window.kernel;
  window.dilations.assign(window.rank(), 1);
  window.begin.assign(window.rank(), 0);
  window.end.assign(window.rank(), 0);
  return true;
}

std::string max_pool(Rewriter& rewriter) {
  Operation& pool = rewriter.origin();
  if (pool.outputs().size() > 1 && pool.output(1)) return {};
  const std::string mode = pool.string_attribute("auto_pad", "NOTSET");
  Window window = closed_window(rewriter);
  const bool plain = !window.dilated() && pools_padded(window, rewriter.shape(0));
  if (plain && mode == "NOTSET" && pool.int_attribute("ceil_mode", 0) == 0) return {};
  if (!plain && !lay_out_windows(rewriter, window)) return {};
  rewriter.become("MaxPool", {pool.input(0)}, attributes_of(window));
  return plain ? "padding of MaxPool stated" : "windows of MaxPool laid out";
}

/// Elements of the input (and of the padding that counts) under each window.
at::Tensor counts(const Operation& pool, const Shape& input, const Window& declared, const Window& window) {
  const bool include = pool.int_attribute("count_include_pad", 0) != 0;
  Shape shape = input;
  shape[0] = shape[1] = 1;
  at::Tensor ones = at::ones(shape);
  std::vector<int64_t> begin = window.begin, end = window.end;
  if (include) {
    ones = pad_spatial(ones, declared.begin, declared.end, 1);
    for (size_t axis = 0; axis < window.rank(); ++axis) {
      begin[axis] -= declared.begin[axis];
      end[axis] -= declared.end[axis];
    }
  }
  Shape filter = window.kernel;
  filter.insert(filter.begin(), {1, 1});
  const std::vector<int64_t> none(window.rank(), 0);
  return at::convolution(pad_spatial(ones, begin, end, 0), at::ones(filter), {}, window.strides, none, window.dilations,
                         false, none, 1);
}

/// The chip divides by the whole kernel area. What ONNX divides by is a constant per position.
std::string average_pool(Rewriter& rewriter) {
  Operation& pool = rewriter.origin();
  const Shape input = rewriter.shape(0);
  const Window declared = read_window(pool, input, pool.ints_attribute("kernel_shape"));
  Window window = closed_window(rewriter);
  if (window.dilated()) return {};
  double area = 1;
  for (const int64_t length : window.kernel) area *= static_cast<double>(length);
  const at::Tensor factors = area / counts(pool, input, declared, window);
  if (!at::isfinite(factors).all().item<bool>()) return {};
  const Variable* source = pool.input(0);
  if (!pools_padded(window, input)) pad_in_front(rewriter, window);
  const bool stated = pool.int_attribute("count_include_pad", 0) != 0 || !window.padded();
  if (stated && pool.int_attribute("ceil_mode", 0) == 0 && pool.string_attribute("auto_pad", "NOTSET") == "NOTSET" &&
      factors.eq(1).all().item<bool>() && pool.input(0) == source)
    return {};
  AttributeMap attributes = attributes_of(window);
  attributes["count_include_pad"] = int64_t{1};
  rewriter.become("AveragePool", {pool.input(0)}, std::move(attributes));
  if (factors.eq(1).all().item<bool>()) return "padding of AveragePool stated";
  rewriter.after("Mul", "divisor", {&rewriter.constant("factors", factors)});
  return "divisor of AveragePool corrected";
}

std::string global_max_pool(Rewriter& rewriter) {
  const Shape& input = rewriter.shape(0);
  if (input.size() < 3) return {};
  const Shape kernel(input.begin() + 2, input.end()), ones(kernel.size(), 1);
  rewriter.become("MaxPool", {rewriter.origin().input(0)}, {{"kernel_shape", kernel}, {"strides", ones}});
  return "GlobalMaxPool became MaxPool";
}

}  // namespace

std::vector<RewriteRule> pooling_rewrites() {
  return {{"MaxPool", max_pool}, {"AveragePool", average_pool}, {"GlobalMaxPool", global_max_pool}};
}

}  // namespace espq
