// Resize: where the chip library reads other elements, or weights them otherwise.
#include <ATen/ATen.h>

#include "core/ops/operator.h"
#include "passes/legalize/rewriter.h"

namespace espq {
namespace {

bool has_constant_operands(const Operation& operation) {
  for (size_t slot = 1; slot < operation.inputs().size(); ++slot)
    if (operation.input(slot) && !operation.input(slot)->is_parameter()) return false;
  return operation.string_attribute("coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize";
}

/// [length, result]: what every element adds to every result along `axis`.
at::Tensor weights(const Operation& operation, const Shape& input, int64_t axis) {
  Tensors rows;
  for (const at::Tensor& unit : at::eye(input[axis]).unbind(0)) rows.push_back(response(operation, input, axis, unit));
  return at::stack(rows);
}

/// A weighted sum along each axis: the product with a constant matrix.
std::string interpolate(Rewriter& rewriter) {
  Operation& resize = rewriter.origin();
  const Shape from = rewriter.shape(0);
  const auto& to = resize.output()->shape();
  const int64_t rank = static_cast<int64_t>(from.size());
  if (!to || rank < 3 || rank > 4 || from[0] != to->at(0) || from[1] != to->at(1)) return {};
  Variable* value = resize.input(0);
  const at::Tensor columns = weights(resize, from, rank - 1);
  std::optional<at::Tensor> rows;
  if (rank == 4) rows = weights(resize, from, rank - 2);
  value = &rewriter.add("MatMul", "columns", {value, &rewriter.constant("column_weights", columns)});
  if (rows) {
    const Shape turned{0, 1, 3, 2};
    value = &rewriter.add("Transpose", "turned", {value}, {{"perm", turned}});
    value = &rewriter.add("MatMul", "rows", {value, &rewriter.constant("row_weights", *rows)});
    rewriter.become("Transpose", {value}, {{"perm", turned}});
  } else {
    Variable& shape = rewriter.constant("shape", *to);
    rewriter.become("Reshape", {value, &shape});
  }
  return "Resize became MatMul";
}

std::string resize(Rewriter& rewriter) {
  const Operation& resize = rewriter.origin();
  if (!has_constant_operands(resize)) return {};
  if (resize.string_attribute("mode", "nearest") != "nearest") return interpolate(rewriter);
  return rewriter.become_gathers() ? "nearest Resize became Gather" : "";
}

}  // namespace

std::vector<RewriteRule> resize_rewrites() { return {{"Resize", resize}}; }

}  // namespace espq
