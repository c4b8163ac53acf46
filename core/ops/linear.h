#pragma once
// Conv, ConvTranspose, Gemm and MatMul seen as one thing: result = scale * (W x) + bias, a row of W per output channel.
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "core/graph/graph.h"
#include "core/ops/operator.h"

namespace espq {

/// An operation of a float or quantized graph whose operator has a LinearRule and whose weight is constant. A handle:
/// it is copied freely and always shows what the operation holds now; edits ask for the graph.
class LinearOperation {
 public:
  const Operation& operation() const { return *operation_; }
  Operation& operation(Graph& graph) const;
  const LinearRule& rule() const { return *rule_; }
  size_t weight_slot() const { return weight_slot_; }
  /// nullopt where the operator takes no bias (MatMul).
  std::optional<size_t> bias_slot() const { return bias_slot_; }
  const at::Tensor& weight() const { return operation_->input(weight_slot_)->value(); }
  /// nullptr where there is no bias.
  const Variable* bias_variable() const { return bias_slot_ ? operation_->input(*bias_slot_) : nullptr; }

  int64_t groups() const { return groups_; }
  /// Rows of W: output channels of all groups.
  int64_t rows() const { return rows_; }
  /// Columns of W: input channels of one group times the positions of the kernel.
  int64_t columns() const { return columns_; }
  /// Input channels of all groups.
  int64_t input_channels() const { return input_channels_; }
  /// Of data and result; unknown for a MatMul on a value of unknown shape.
  std::optional<int64_t> rank() const;

  /// A tensor in the order of the weight (the weight, its codes, its gradient) with output channels first: [rows,
  /// channels of a group, kernel ...]. A view where the order allows it.
  at::Tensor rows_first(const at::Tensor& like_weight) const;
  /// W, one matrix per group: [groups, rows / groups, columns].
  at::Tensor matrices() const;
  /// The inverse: a weight in the operator's own order.
  at::Tensor weight_from(const at::Tensor& matrices) const;
  /// The weight in float64 with its rows scaled by `factors` [rows] or its columns by [input channels].
  at::Tensor scaled_rows(const at::Tensor& factors) const;
  at::Tensor scaled_columns(const at::Tensor& factors) const;
  /// The bias as [rows] in float64, zeros when there is none; nullopt when it is no constant per channel, or when a
  /// Gemm multiplies it by beta != 1.
  std::optional<at::Tensor> bias() const;

  /// Writes a weight in the operator's own order (float64 computations are rounded once).
  void set_weight(Graph& graph, const at::Tensor& weight) const;
  /// Writes the bias [rows]; adds the operand where there was none.
  void set_bias(Graph& graph, const at::Tensor& bias) const;

  /// Replaces the operation by one per entry of `rows`, each of which computes so many of the output channels, and a
  /// Concat of their results: a layer that the chip (or its memory) takes in parts only. Of an operation of one group
  /// in a float graph, whose bias is constant per channel. Returns the new operations; this handle is invalid then.
  std::vector<LinearOperation> split_outputs(Graph& graph, const std::vector<int64_t>& rows) const;

  friend std::optional<LinearOperation> linear_operation(const Operation& operation);

 private:
  const Operation* operation_ = nullptr;
  const LinearRule* rule_ = nullptr;
  size_t weight_slot_ = 0;
  std::optional<size_t> bias_slot_;
  int64_t groups_ = 1, rows_ = 0, columns_ = 0, input_channels_ = 0;
};

/// nullopt when the operation is no linear one, its weight is not constant or no filter or matrix, or its data are.
std::optional<LinearOperation> linear_operation(const Operation& operation);
/// The linear operation whose result operand `slot` of `consumer` alone reads.
std::optional<LinearOperation> linear_producer(const Graph& graph, const Operation& consumer, size_t slot);

/// A constant that acts per channel on a value of `rank` dimensions with `channels` channels along `axis`, as float64
/// [channels]; nullopt when it varies along another axis or would broadcast the value to a larger shape.
std::optional<at::Tensor> channel_vector(const at::Tensor& constant, std::optional<int64_t> rank, int64_t axis,
                                         int64_t channels);
/// The same for the operation's output or input.
std::optional<at::Tensor> output_vector(const LinearOperation& linear, const at::Tensor& constant);
std::optional<at::Tensor> input_vector(const LinearOperation& linear, const at::Tensor& constant);

}  // namespace espq
