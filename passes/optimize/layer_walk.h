#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "core/data/dataset.h"
#include "core/exec/executor.h"
#include "core/exec/side_by_side.h"
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
  /// Of a layer: what `look` makes of every batch, several at a time: of the quantized network's first result before it
  /// is rounded, and of the float network's.
  using Look = std::function<at::Tensor(const at::Tensor& raw, const at::Tensor& exact)>;
  std::vector<at::Tensor> each_batch(const Look& look);
  /// Of an operation with one result that each_batch() has looked at: what that result has become with the change, so
  /// that it need not be computed a second time.
  void becomes(const std::function<at::Tensor(const at::Tensor& raw)>& result);

 private:
  using Values = std::unordered_map<const Variable*, at::Tensor>;
  struct Batch {
    Values exact, quantized;  ///< by variable of the quantized graph
    at::Tensor raw = {};      ///< of the current operation, once a visitor looked
  };
  /// What one thread works with.
  struct Lane {
    Executor teaches, computes, watches;              ///< the last one for operations that a visitor may look at
    std::optional<Piece> exact = {}, quantized = {};  ///< the current operation
    at::Tensor raw = {};
  };

  void enter(const Operation& operation);
  void leave(const Operation& operation);
  Tensors compute(Piece& piece, const Values& values) const;
  void drop_what_nobody_reads(const Operation& operation, Values& values) const;
  void on_every_batch(const std::function<void(Lane& lane, size_t batch)>& work);

  const Graph &teacher_, &quantized_;
  const OneThreadEach one_thread_each_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::vector<Batch> batches_;
  std::unordered_map<const Variable*, const Operation*> last_reader_;
  std::vector<const Variable*> feeds_, results_;  ///< of the current operation
  bool computed_ = false;                         ///< its quantized result, by becomes()
};

}  // namespace espq
