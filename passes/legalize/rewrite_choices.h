#pragma once
#include "core/graph/graph.h"
#include "passes/legalize/legalize.h"

namespace espq {

/// Choices by condition, for which the chip library has no kernels, become what it has:
/// - a function of single elements of one tensor, however many comparisons, logic, Where and arithmetic it takes
///   (where(x > c, f(x), g(x)), (x > c).float(), Max(x, f(x))): ScalarFunction, which a table of 8 bits holds exactly;
///   in a network of 16 bits Max and Min stay for legalize;
/// - Where with a constant condition: x where it always holds, else Mul with the condition and Add of the constants
///   (x m + y (1 - m); -inf in a constant stays for bound_masks);
/// - Where and Cast of conditions of several tensors: the same with a condition of zeros and ones, And as Mul, Or as
/// Add
///   and Clip, Xor as Abs of Sub, comparisons of two tensors as a ScalarFunction of their difference.
/// Leaves integers, conditions that come from elsewhere (graph inputs, NonZero) and infinite constants that a condition
/// of zeros would multiply. New operations have no width.
PassReport rewrite_choices(Graph& graph, Origins* origins = nullptr, int bits = 8);

}  // namespace espq
