#pragma once
#include <vector>

#include "passes/optimize/blocks.h"

namespace espq {

/// The blocks that esp-ppq 1.3.12 trains, for comparisons with it: from every quantized operation with weights that is
/// in no block yet, in the order of the graph, forward until the path's depth would grow by more than `size`; past a
/// fork only where all branches meet again. A block has one input and one output as a rule, blocks may overlap, and
/// operations may be in none.
std::vector<Block> depth_blocks(const Graph& graph, int64_t size);

}  // namespace espq
