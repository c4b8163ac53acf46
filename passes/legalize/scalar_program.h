#pragma once
#include <optional>
#include <string>
#include <vector>

#include "core/graph/graph.h"

namespace espq {

/// A function of single elements of one tensor.
struct ScalarProgram {
  Variable* x;                     ///< the tensor
  std::vector<std::string> steps;  ///< as in ScalarFunction
  std::vector<Operation*> path;    ///< what it takes the place of, in the order in which they run
};

/// `value` as a function of the nearest floating tensor that it depends on alone, with one element for each of its
/// own. nullopt where there is none, or where a constant in it is no number (infinite, NaN).
std::optional<ScalarProgram> scalar_program(Variable& value);
/// What `path` computes of `x`: paths that scalar_program() found, one behind the other.
ScalarProgram scalar_program(Variable& x, const std::vector<Operation*>& path);

}  // namespace espq
