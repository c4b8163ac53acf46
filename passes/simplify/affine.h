#pragma once
#include <optional>
// Scalar arithmetic around a value, read backwards: what the activation spellings of exporters are made of.
#include "core/graph/graph.h"

namespace espq {

/// value = scale * root + offset.
struct AffineValue {
  Variable* root = nullptr;
  double scale = 1, offset = 0;
};

/// Follows Add, Sub and (by positive numbers) Mul and Div with constants of one element up from `value`, as long as
/// nobody else reads what is passed on the way. A `value` with other readers than `reader` is its own root.
AffineValue affine_value(const Graph& graph, Variable& value, Operation& reader);
/// The same for what `last` computes, whoever reads it.
AffineValue affine_result(const Graph& graph, Operation& last);

/// scale * left * right, where the Mul serves the result alone.
struct ScaledProduct {
  Operation* multiplication = nullptr;
  double scale = 1;
};
/// What `last` computes, when it is the product of two values that are not constant, times a constant.
std::optional<ScaledProduct> scaled_product(const Graph& graph, Operation& last);

/// Within 1e-4 relative: exporters write 1/6, sqrt(2) and the like in float32 or with few digits.
bool close_to(double value, double expected);

}  // namespace espq
