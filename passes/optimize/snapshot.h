#pragma once
#include <ATen/core/Tensor.h>

#include <string>
#include <unordered_map>
#include <vector>

#include "core/graph/graph.h"

namespace espq {

/// Constants, slots and exponents of a graph at one moment, to go back to when a pass did not help. Tensors are shared
/// with the graph, whose passes never write into one.
class Snapshot {
 public:
  explicit Snapshot(const Graph& graph);
  /// The graph as it was. Its operations and constants must be those of then (InternalError naming one otherwise):
  /// whoever adds or removes some keeps a clone instead.
  void restore(Graph& graph) const;

 private:
  struct Slots {
    std::vector<SlotQuant> inputs, outputs;
  };
  std::unordered_map<std::string, at::Tensor> constants_;  ///< by variable
  std::unordered_map<std::string, Slots> slots_;           ///< by quantized operation
  ScaleForest scales_;
};

}  // namespace espq
