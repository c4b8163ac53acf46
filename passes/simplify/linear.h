#pragma once
// Conv, ConvTranspose, Gemm and MatMul seen as one thing: out = scale * (W x) + bias, a row of W per output channel.
#include <ATen/core/Tensor.h>

#include <optional>

#include "core/graph/graph.h"

namespace espq {

/// Where the channels of a linear operation with a constant weight are.
struct LinearOperation {
  Operation* operation = nullptr;
  int64_t input_channels = 0, output_channels = 0;
  std::optional<int64_t> rank;  ///< of input and output; unknown for MatMul on a value of unknown shape
  int64_t channel_axis = 1;     ///< of input and output, from the front; -1 = last
  bool takes_bias = true;       ///< false for MatMul

  /// The weight with its rows (output channels) scaled by `factors` [output_channels] or columns by [input_channels].
  at::Tensor scaled_rows(const at::Tensor& factors) const;
  at::Tensor scaled_columns(const at::Tensor& factors) const;
  /// The bias as [output_channels] in float64, zeros when there is none; nullopt when it is no constant per channel,
  /// or when a Gemm multiplies it by beta != 1.
  std::optional<at::Tensor> bias() const;
};

/// nullopt when the operation is no linear one or its weight is not constant.
std::optional<LinearOperation> linear_operation(Operation& operation);
std::optional<LinearOperation> linear_producer(const Graph& graph, Operation& consumer, size_t slot);

/// Writes a new weight (float64 computations are rounded to float32 once).
void set_weight(Graph& graph, const LinearOperation& linear, const at::Tensor& weight);
/// Writes the bias [output_channels]; adds the operand where there was none.
void set_bias(Graph& graph, const LinearOperation& linear, const at::Tensor& bias);

/// A constant that acts per channel on a value of `rank` dimensions with `channels` channels along `axis`, as float64
/// [channels]; nullopt when it varies along another axis or would broadcast the value to a larger shape.
std::optional<at::Tensor> channel_vector(const at::Tensor& constant, std::optional<int64_t> rank, int64_t axis,
                                         int64_t channels);
/// The same for the operation's output or input.
std::optional<at::Tensor> output_vector(const LinearOperation& linear, const at::Tensor& constant);
std::optional<at::Tensor> input_vector(const LinearOperation& linear, const at::Tensor& constant);

}  // namespace espq
