// Operators that are sums of their operand's elements with constant factors: a product with a matrix, which LibTorch's
// own kernel gives when it is run on the unit vectors.
#include "torch_frontend/aten/families.h"

namespace espq::torch_frontend {
namespace {

using Integers = Call::Integers;

/// A larger matrix is another network than the user's.
constexpr int64_t kMaxElements = int64_t{1} << 22;

void check_size(const Call& call, int64_t from, int64_t to) {
  call.check(from <= kMaxElements / std::max<int64_t>(to, 1), "would be a product with a matrix of {} x {}", from, to);
}

/// `value` of shape `shape` with its last elements, as many as the matrix has rows, multiplied by it.
Variable* multiply(const Call& call, Variable* value, Integers leading, const at::Tensor& matrix, const Shape& result) {
  leading.push_back(matrix.size(0));
  Variable* rows = call.reshape(value, leading);
  return call.reshape(call.emit("MatMul", {rows, call.parameter("matrix", matrix)}), result);
}

/// The same along one axis of any place.
Variable* multiply_axis(const Call& call, Variable* value, int64_t rank, int64_t axis, const at::Tensor& matrix) {
  Variable* factor = call.parameter("matrix", matrix);
  if (axis + 1 == rank) return call.emit("MatMul", {value, factor});
  Integers order(static_cast<size_t>(rank));
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
  std::swap(order[static_cast<size_t>(axis)], order.back());
  return call.transpose(call.emit("MatMul", {call.transpose(value, order), factor}), order);
}

void cumsum(Call& call) {
  const int64_t rank = call.rank("self"), axis = call.dim("dim", rank);
  if (rank == 0 || call.output_dtype() != at::kFloat)
    return call.result("CumSum", {call.tensor_as("self", call.output_dtype()),
                                  call.parameter("axis", at::scalar_tensor(axis, at::kLong))});
  const int64_t size = call.shape("self")[static_cast<size_t>(axis)];
  check_size(call, size, size);
  call.result(multiply_axis(call, call.tensor_as("self", at::kFloat), rank, axis, at::ones({size, size}).triu()));
}

/// Blocks of columns summed up to a picture (fold).
void col2im(Call& call) {
  const Shape columns = call.shape("self"), result = call.output_shape();
  const Integers size = call.integers("output_size", 2), kernel = call.integers("kernel_size", 2);
  const int64_t places = columns.back(), from = kernel[0] * kernel[1] * places, to = size[0] * size[1];
  check_size(call, from, to);
  const at::Tensor matrix =
      at::col2im(at::eye(from).view({from, kernel[0] * kernel[1], places}), size, kernel, call.integers("dilation", 2),
                 call.integers("padding", 2), call.integers("stride", 2))
          .reshape({from, to});
  call.result(multiply(call, call.tensor_as("self", at::kFloat), {result.begin(), result.end() - 2}, matrix, result));
}

/// Samples of a picture at constant places.
void grid_sampler(Call& call) {
  const at::Tensor grid = call.constant("grid");
  const Shape shape = call.shape("input"), result = call.output_shape();
  call.check(shape.size() == 4, "needs pictures of two dimensions");
  call.check(grid.dim() == 4 && at::equal(grid, grid.slice(0, 0, 1).expand_as(grid)),
             "its grid differs from sample to sample");
  const int64_t from = shape[2] * shape[3], to = result[2] * result[3];
  check_size(call, from, to);
  const at::Tensor units = at::eye(from).view({1, from, shape[2], shape[3]});
  const at::Tensor matrix =
      at::grid_sampler(units, grid.slice(0, 0, 1).to(at::kFloat), call.integer("interpolation_mode"),
                       call.integer("padding_mode"), call.flag("align_corners"))
          .reshape({from, to});
  call.result(multiply(call, call.tensor_as("input", at::kFloat), {shape[0], shape[1]}, matrix, result));
}

using Resampling = at::Tensor (*)(const at::Tensor&, at::IntArrayRef, bool, std::optional<double>,
                                  std::optional<double>);

/// Resizing with a filter over all that an element covers: one matrix per axis.
template <Resampling resample>
void antialiased(Call& call) {
  const std::string_view operand = call.has("self") ? "self" : "input";
  const Shape shape = call.shape(operand), result = call.output_shape();
  const bool corners = call.flag("align_corners");
  const auto factor = [&](std::string_view name, size_t axis) -> std::optional<double> {
    if (call.has("scale_factors")) return call.numbers("scale_factors").at(axis);
    return call.has(name) ? std::optional(call.number(name)) : std::nullopt;
  };
  Variable* value = call.tensor_as(operand, at::kFloat);
  for (const size_t axis : {size_t{2}, size_t{3}}) {
    const int64_t from = shape[axis], to = result[axis];
    check_size(call, from, std::max(from, to));
    const auto scale = factor(axis == 2 ? "scales_h" : "scales_w", axis - 2);
    // One unit vector per row; the other axis keeps its size, which changes nothing.
    const at::Tensor matrix =
        resample(at::eye(from).view({1, 1, from, from}), {from, to}, corners, std::nullopt, scale).view({from, to});
    value = multiply_axis(call, value, 4, static_cast<int64_t>(axis), matrix);
  }
  call.result(value);
}

at::Tensor linear(const at::Tensor& x, at::IntArrayRef sizes, bool corners, std::optional<double> height,
                  std::optional<double> width) {
  return at::_upsample_bilinear2d_aa(x, sizes, corners, height, width);
}
at::Tensor cubic(const at::Tensor& x, at::IntArrayRef sizes, bool corners, std::optional<double> height,
                 std::optional<double> width) {
  return at::_upsample_bicubic2d_aa(x, sizes, corners, height, width);
}

}  // namespace

void add_linear_maps(Table& table) {
  table["cumsum"] = {cumsum, Family::Product};
  table["col2im"] = {col2im, Family::Product};
  for (const char* name : {"grid_sampler", "grid_sampler_2d"}) table[name] = {grid_sampler, Family::Product};
  table["_upsample_bilinear2d_aa"] = {antialiased<linear>, Family::Product};
  table["_upsample_bicubic2d_aa"] = {antialiased<cubic>, Family::Product};
}

}  // namespace espq::torch_frontend
