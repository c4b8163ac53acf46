#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "core/graph/graph.h"

namespace espq {

/// The layers with constant weights that `patterns` ('*', '?') mean, each once, in the order of the patterns. Throws
/// UserError naming a pattern that no layer has; `pass` is whose option "names" they are.
std::vector<std::string> layers_named(const Graph& graph, const std::vector<std::string>& patterns,
                                      std::string_view pass);

}  // namespace espq
