#pragma once
#include <functional>
#include <map>
#include <vector>

#include "core/data/dataset.h"
#include "core/graph/graph.h"

namespace espq {

/// Squared error of one aligned operation's result, by the exponent that its operands and its result would share.
using ErrorByExponent = std::map<int, double>;

/// Runs the float network on at most `batches` batches and tries, on the values of each of `operations`, the exponent
/// that its result has by itself and every coarser one up to the coarsest of its operands: operands are rounded and
/// clipped to it, as is the result (whose observer knows best how fine it may be); a Relu or Clip that shares the
/// result's grid is part of what is compared. An operand whose producer keeps its own grid is on that grid first:
/// `keeps_grid` says of which operands that is known. Operations whose operands need no more room than their result are
/// left out. Needs calibrated slots of one width per operation.
std::map<const Operation*, ErrorByExponent> joint_errors(
    const Graph& graph, const std::vector<const Operation*>& operations, const Dataset& data, int64_t batches,
    const std::function<bool(const Operation&, size_t)>& keeps_grid);

}  // namespace espq
