#pragma once
// What the simplifier's passes share: edits that keep names, outputs and other readers intact.
#include <string>
#include <vector>

#include "core/graph/edit.h"
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

/// A one-dimensional int64 tensor.
at::Tensor integer_tensor(const std::vector<int64_t>& values);

}  // namespace espq
