#pragma once
#include <optional>
#include <string_view>
#include <vector>

#include "core/graph/graph.h"

namespace espq {

/// The operation that alone reads `value`; nullptr when nothing or several operands read it, or when it is a graph
/// output. A value with a sole consumer may be changed together with it and nobody else notices.
Operation* sole_consumer(const Graph& graph, Variable& value);
const Operation* sole_consumer(const Graph& graph, const Variable& value);

/// The operation that alone reads what `operation` writes, whether or not that also leaves the graph: who merges the
/// two has to look after graph outputs. nullptr when nothing or several operands read it.
Operation* sole_reader(Operation& operation);

/// Producer of `value` when it is of type `type`; otherwise nullptr (also for omitted operands).
Operation* producer_of(Variable* value, std::string_view type);
const Operation* producer_of(const Variable* value, std::string_view type);
/// As producer_of, and the value serves `operation` alone (sole_consumer), so that both may be merged.
Operation* private_producer_of(const Graph& graph, Operation& operation, size_t slot, std::string_view type);

/// The only element of a constant (any rank, any numeric type).
std::optional<double> scalar_constant(const Variable* value);
/// True when `value` is a constant with one element within `tolerance` (relative) of `expected`.
bool is_scalar(const Variable* value, double expected, double tolerance = 1e-5);
/// All elements of an integer constant in row-major order.
std::optional<std::vector<int64_t>> integer_constant(const Variable* value);

/// For a two-operand operation with exactly one constant: slot of the constant; otherwise nullopt.
std::optional<size_t> constant_operand(const Operation& operation);

/// Rank when the shape is known.
std::optional<int64_t> rank_of(const Variable* value);

}  // namespace espq
