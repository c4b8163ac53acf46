#pragma once
// Edits that passes share: they keep names and other readers intact.
#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

#include "core/graph/graph.h"

namespace espq {

/// Operand `slot` reads the constant `value`: under the old name when the old parameter serves this operand alone,
/// otherwise in a parameter called `name` (made unique). Appends the operand when it is the next one.
void set_constant(Graph& graph, Operation& operation, size_t slot, const at::Tensor& value, const std::string& name);

/// `name`, or `name_1`, `name_2`, ... when it is taken.
std::string free_variable_name(const Graph& graph, const std::string& name);
std::string free_operation_name(const Graph& graph, const std::string& name);

/// A new variable of the given shape and the dtype of `like`.
Variable& add_value(Graph& graph, const Variable& like, std::optional<Shape> shape, const std::string& name = {});

}  // namespace espq
