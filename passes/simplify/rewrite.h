#pragma once
// What the simplifier's passes share: edits that keep names, outputs and other readers intact.
#include <string>
#include <vector>

#include "core/graph/graph.h"

namespace espq {

/// True when nothing reads any output of the operation and none is a graph output. Passes leave such operations to
/// remove_dead_code, so that handles taken at the start of a pass stay valid.
bool is_dead(const Graph& graph, const Operation& operation);

/// True when the operation may be cut out without renaming a graph output or joining two of them.
bool can_bypass(const Graph& graph, const Operation& operation);

/// `operation` keeps its name, place and output and becomes another operator. Defaults of attributes are filled in.
void become(Graph& graph, Operation& operation, std::string type, const std::vector<Variable*>& inputs,
            AttributeMap attributes = {});

/// `first` writes what `last` wrote, and `last` is removed. Output 0 of `first` must be read by `last` alone.
void take_over_output(Graph& graph, Operation& first, Operation& last);

/// The value that `operation` computed is the constant `value` from now on; the operation is removed.
void replace_by_constant(Graph& graph, Operation& operation, const at::Tensor& value);

/// Operand `slot` reads the constant `value`: under the old name when the old parameter serves this operand alone,
/// otherwise in a parameter called `name` (made unique). Appends the operand when it is the next one.
void set_constant(Graph& graph, Operation& operation, size_t slot, const at::Tensor& value, const std::string& name);

/// `name`, or `name_1`, `name_2`, ... when it is taken.
std::string free_variable_name(const Graph& graph, const std::string& name);
std::string free_operation_name(const Graph& graph, const std::string& name);

/// A new variable of the given shape and the dtype of `like`.
Variable& add_value(Graph& graph, const Variable& like, std::optional<Shape> shape, const std::string& name = {});

/// A one-dimensional int64 tensor.
at::Tensor integer_tensor(const std::vector<int64_t>& values);

}  // namespace espq
