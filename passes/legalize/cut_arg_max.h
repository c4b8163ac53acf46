#pragma once
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

/// A network whose output is the place of the largest or smallest element (ArgMax, ArgMin, TopK of one element), for
/// which the chip library has no kernel, ends in front of it: its output is what was searched, and a warning tells that
/// the application has to search. Between the search and the output may stand operations that only change shape or
/// type. Leaves searches whose places the network reads, and those of a graph input or of what is an output already.
PassReport cut_arg_max(Graph& graph);

}  // namespace espq
