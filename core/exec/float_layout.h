#pragma once
#include "core/exec/executor.h"

// Chip graphs keep their activations in the chip's layout and in integers. For programs that know the float network
// only: its layout and real numbers on both sides.
namespace espq {

/// A tensor of the float network in the layout of the chip graph's variable: dimensions permuted, values as they are.
/// Throws UserError naming the variable when the number of dimensions differs.
at::Tensor to_chip_layout(const Variable& variable, const at::Tensor& tensor);
/// The way back: a tensor of the chip graph's variable in the layout of the float network.
at::Tensor from_chip_layout(const Variable& variable, const at::Tensor& tensor);

/// The shape that a tensor of the chip graph's variable has in the float network. Throws UserError when it is unknown.
Shape float_shape(const Variable& variable);

/// Runs a lowered graph like the float network that it was made from. `chip` is what `executor` runs, in any precision.
/// `inputs`: one per graph input, in order, [N, ...] as the float network takes them; floats, or integers of the file's
/// dtype. N is any multiple of the batch that the chip graph has (1 as a rule): the pieces run one after the other, as
/// on the chip. Returns one tensor per graph output, in order, in the layout of the float network: real numbers
/// (float32: integer codes times their scale; what the file does not quantize comes as it is), or with `codes` the
/// file's integers; pieces put together along the first dimension.
/// Throws UserError when the graph is not lowered, on a wrong number of inputs, wrong shapes or an N that the graph's
/// batch does not divide.
Tensors run_in_float_layout(Executor& executor, const Graph& chip, const Tensors& inputs, bool codes = false);
/// The real numbers of a result that the executor gave for the variable.
at::Tensor real_values(const Variable& output, const at::Tensor& value);

}  // namespace espq
