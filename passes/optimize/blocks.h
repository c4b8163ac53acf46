#pragma once
#include <cstdint>
#include <vector>

#include "core/graph/graph.h"

namespace espq {

/// Operations that can be run by themselves (Executor::compile): nothing outside lies between two of them.
struct Block {
  std::vector<const Operation*> operations;  ///< in an order in which they can run
  std::vector<const Variable*> inputs;       ///< what they read and neither compute nor have as constants
  std::vector<const Variable*> outputs;      ///< what is read behind them or leaves the network
};

/// The network cut into blocks that follow one another: every operation is in exactly one, and a block reads only
/// inputs of the network and outputs of blocks before it. A block has at most `size` operations with weights, more only
/// where a cut would part an operation from the Relu or Clip that is computed inside it. Cuts are where the fewest
/// tensors pass, then as few as possible, then where those tensors are small; a block begins with an operation with
/// weights. Throws UserError when size < 1.
std::vector<Block> blocks(const Graph& graph, int64_t size);

/// The same operations of another graph with the same names. Throws UserError naming what it does not have.
Block same_block(const Block& block, const Graph& other);

}  // namespace espq
