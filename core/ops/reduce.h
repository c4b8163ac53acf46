#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "core/ops/operator.h"

namespace espq {

/// Axes that a Reduce operation reduces, ascending. `given`: its operand 1, where it has one; else its attribute
/// counts.
std::vector<int64_t> reduced_axes(const Operation& operation, const std::optional<std::vector<int64_t>>& given,
                                  int64_t rank);
/// The same from the graph alone: nullopt when the network computes the axes, or the rank is not known.
std::optional<std::vector<int64_t>> reduced_axes(const Operation& operation);

/// The chip's kernels walk through axes as groups of neighbours, reduced and kept in turns, and know four of them.
bool has_too_many_groups(const std::vector<int64_t>& reduced, int64_t rank);

}  // namespace espq
