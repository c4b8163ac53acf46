#pragma once
#include <optional>
// What LayerNormalization, RMSNormalization and LpNormalization have in common when they are written as arithmetic.
#include "core/graph/graph.h"

namespace espq {

/// Axes of a Reduce operation with keepdims = 1 or of a global pool, counted from the front and sorted; nullopt when
/// they are not constant, the rank is unknown or the dimensions are dropped.
std::optional<Shape> kept_reduction_axes(const Operation& reduction);
/// The first axis when the axes are the trailing ones.
std::optional<int64_t> trailing_axis(const Operation& reduction);

/// A constant gain or offset as a tensor of exactly the normalized shape: dimensions [axis, rank) of `value`. Broadcast
/// dimensions are filled in; nullopt when it varies along a leading axis or would broadcast the value.
std::optional<at::Tensor> normalized_parameter(const Variable& constant, const Variable& value, int64_t axis);

/// Variable whose square `square` computes (Pow with exponent 2, or a Mul of a value with itself); nullptr otherwise.
Variable* squared_value(Operation& square);

/// For a two-operand operation: the operand that is not `known`; nullptr when neither or both are.
Variable* other_operand(Operation& operation, const Variable* known);

}  // namespace espq
