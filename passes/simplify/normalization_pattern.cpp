#include "passes/simplify/normalization_pattern.h"

#include "core/graph/match.h"

namespace espq {

std::optional<Shape> kept_reduction_axes(const Operation& reduction) {
  const auto rank = rank_of(reduction.input(0));
  if (!rank || reduction.int_attribute("keepdims", 1) != 1) return std::nullopt;
  Shape axes;
  if (reduction.type() == "GlobalAveragePool") {
    for (int64_t axis = 2; axis < *rank; ++axis) axes.push_back(axis);
  } else if (reduction.input(1)) {
    const auto given = integer_constant(reduction.input(1));
    if (!given) return std::nullopt;
    axes = *given;
  } else if (reduction.has("axes")) {
    axes = reduction.ints_attribute("axes");
  }
  if (axes.empty()) return std::nullopt;
  for (int64_t& axis : axes)
    if (axis < 0) axis += *rank;
  std::sort(axes.begin(), axes.end());
  return axes;
}

std::optional<int64_t> trailing_axis(const Operation& reduction) {
  const auto axes = kept_reduction_axes(reduction);
  if (!axes) return std::nullopt;
  const int64_t first = *rank_of(reduction.input(0)) - static_cast<int64_t>(axes->size());
  for (size_t i = 0; i < axes->size(); ++i)
    if ((*axes)[i] != first + static_cast<int64_t>(i)) return std::nullopt;
  return first;
}

std::optional<at::Tensor> normalized_parameter(const Variable& constant, const Variable& value, int64_t axis) {
  if (!constant.is_parameter() || !value.shape() || !at::isFloatingType(constant.value().scalar_type()))
    return std::nullopt;
  const Shape normalized(value.shape()->begin() + axis, value.shape()->end());
  at::Tensor tensor = constant.value();
  const int64_t depth = static_cast<int64_t>(normalized.size());
  if (tensor.dim() > static_cast<int64_t>(value.shape()->size())) return std::nullopt;
  while (tensor.dim() > depth) {
    if (tensor.size(0) != 1) return std::nullopt;
    tensor = tensor.squeeze(0);
  }
  for (int64_t i = 1; i <= tensor.dim(); ++i)
    if (tensor.size(-i) != 1 && tensor.size(-i) != normalized[depth - i]) return std::nullopt;
  return tensor.expand(normalized).contiguous();
}

Variable* squared_value(Operation& square) {
  if (square.type() == "Pow") return is_scalar(square.input(1), 2, 0) ? square.input(0) : nullptr;
  if (square.type() == "Mul" && square.inputs().size() == 2 && square.input(0) == square.input(1))
    return square.input(0);
  return nullptr;
}

Variable* other_operand(Operation& operation, const Variable* known) {
  if (operation.inputs().size() != 2 || operation.input(0) == operation.input(1)) return nullptr;
  if (operation.input(0) == known) return operation.input(1);
  return operation.input(1) == known ? operation.input(0) : nullptr;
}

}  // namespace espq
