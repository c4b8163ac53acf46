#pragma once
#include <optional>

#include "core/exec/step_compiler.h"
#include "core/ops/training/training.h"

// What steps of several precisions are made of.
namespace espq {

/// The row's float kernel. Throws UserError naming the operation when it has none.
void use_forward(Step& step, const ForwardContext& context);

/// Where an operation that only clamps its operand does so; nullopt for others, and where a bound is computed.
std::optional<ClipBounds> constant_bounds(const Step& step);
/// Leaves clamping to what rounds, or takes, the result: that pass may take place in the operand's memory.
void pass_operand_on(Step& step);

/// A step of a chip graph that computes in floats: parameters as the numbers that their integers stand for, operands in
/// the layout that float kernels want, a fused Relu behind the kernel.
Step chip_float_step(const Graph& graph, const Operation& operation);
/// Lets operators that the chip runs with channels last have them first, as kernels want it.
void turn_channels(Step& step);
/// The look-up table of a chip graph's operation; undefined where it has none.
at::Tensor look_up_table(const Operation& operation);

/// Makes a step of training of a forward step: puts the operator's node of the gradient graph, where its row has one,
/// in the kernel's place, else the context's roundings into the slots; `parameters` and `results` of the options have
/// their way.
void use_training(Step& step, const ExecutionSettings& settings, TrainingContext context, bool may_be_node = true);

/// Throws UserError naming the input when it is undefined or its shape differs from the graph's (in its first dimension
/// it may where the graph is not of a chip: calibration and training take larger batches than the network's).
void check_input(const Graph& graph, const Variable& input, const at::Tensor& value);
/// The integers, in floats, of an input that a chip graph quantizes.
at::Tensor input_codes(const Graph& graph, const Variable& input, const at::Tensor& value);
/// A graph input as float kernels take it: on the chip's grid where a chip graph has one.
at::Tensor enter_floats(const Graph& graph, const Variable& input, const at::Tensor& value);

}  // namespace espq
