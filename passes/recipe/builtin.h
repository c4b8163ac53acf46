#pragma once
#include <string_view>
#include <utility>
#include <vector>

namespace espq {

/// Name and text of every file of recipes/, in the order in which passes/recipe/CMakeLists.txt lists them. They are
/// part of the library, so that a name works wherever it is installed.
const std::vector<std::pair<std::string_view, std::string_view>>& builtin_recipes();

}  // namespace espq
