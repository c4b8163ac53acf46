#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <unordered_map>
#include <vector>

#include "core/data/dataset.h"
#include "core/exec/executor.h"
#include "core/graph/graph.h"

namespace espq {

/// Goes through a quantized network operation by operation, on all batches at once, with the values that reach each of
/// them: those of the quantized network as it is by then, and those of the float network beside it. What a visitor
/// changes of an operation (weights, biases, exponents) is seen by all operations behind.
/// Memory: the values that later operations read, of every batch and both networks.
class LayerWalk {
 public:
  /// `teacher`: the float network, with operations of the same names. Both must outlive the walk.
  LayerWalk(const Graph& teacher, const Graph& quantized, const Dataset& data);
  ~LayerWalk();

  /// `visit` is called with every operation in topological order, before its quantized results are computed.
  void run(const std::function<void(const Operation& operation)>& visit);

  // --- for visitors, about the operation that they are called with
  size_t batches() const { return batches_.size(); }
  /// First result of the float network.
  const at::Tensor& expected(size_t batch) const { return batches_[batch].exact.at(current_->output()); }
  /// First result of the quantized network, and the same before it is rounded.
  struct Result {
    at::Tensor value, raw;
  };
  Result result(size_t batch);

 private:
  using Values = std::unordered_map<const Variable*, at::Tensor>;
  struct Batch {
    Values exact, quantized;  ///< by variable of the quantized graph
  };

  Tensors compute(Piece& piece, const Values& values) const;
  void drop_what_nobody_reads(const Operation& operation, Values& values) const;

  const Graph &teacher_, &quantized_;
  Executor teaches_, computes_;
  std::vector<Batch> batches_;
  std::unordered_map<const Variable*, const Operation*> last_reader_;
  const Operation* current_ = nullptr;
  std::vector<const Variable*> feeds_;  ///< of the current operation
  std::optional<Piece> piece_;          ///< the current operation in the quantized network
  at::Tensor raw_;
};

}  // namespace espq
