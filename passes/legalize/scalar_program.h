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
  size_t operations;               ///< of the graph that it takes the place of
};

/// `value` as a function of the nearest floating tensor that it depends on alone, with one element for each of its
/// own. nullopt where there is none, or where a constant in it is no number (infinite, NaN).
std::optional<ScalarProgram> scalar_program(Variable& value);

}  // namespace espq
