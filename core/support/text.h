#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace espq {

/// The candidate that `name` begins, else the one with the smallest edit distance (ties: the first); empty when there
/// are none.
std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace espq
