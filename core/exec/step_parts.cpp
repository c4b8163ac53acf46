#include "core/exec/step_parts.h"

#include <ATen/ATen.h>

#include "core/exec/chip_grid.h"
#include "core/quant/fake_quantize.h"
#include "core/support/error.h"

namespace espq {
namespace {

std::string shape_text(at::IntArrayRef shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

/// A parameter of a chip graph as a float tensor; undefined where it is not quantized.
at::Tensor parameter_value(const Operation& operation, size_t slot) {
  const Grid grid = input_grid(operation, slot);
  if (!grid.quantized()) return {};
  // Weights of chip graphs have their rows first where every row has an exponent.
  const int axis = grid.exponents.size() == 1 ? -1 : 0;
  return dequantize(operation.input(slot)->value(), grid.exponents, axis).to(at::kFloat);
}

}  // namespace

void use_forward(Step& step, const ForwardContext& context) {
  const ForwardFunction forward = definition_of(context.operation).forward;
  user_check(forward, "{} '{}': espq has no float kernel for this operator", context.operation.type(),
             context.operation.name());
  step.kernel = [forward, context](const Tensors& inputs) { return forward(context, inputs); };
}

std::optional<ClipBounds> constant_bounds(const Step& step) {
  const auto bounds_of = definition_of(*step.operation).bounds;
  if (!bounds_of || step.inputs.empty() || !step.inputs[0].variable) return std::nullopt;
  Tensors operands(step.inputs.size());
  for (size_t slot = 1; slot < step.inputs.size(); ++slot) {
    const StepInput& input = step.inputs[slot];
    if (!input.variable) continue;
    if (!input.parameter) return std::nullopt;
    operands[slot] = input.constant.defined() ? input.constant : *input.parameter;
  }
  return bounds_of(operands);
}

void pass_operand_on(Step& step) {
  step.kernel = [](const Tensors& inputs) { return Tensors{inputs[0]}; };
}

Step chip_float_step(const Graph& graph, const Operation& operation) {
  Step step(operation);
  use_forward(step, {.operation = operation, .chip = true, .lowered = true, .target = graph.target()});
  for (size_t slot = 0; slot < step.inputs.size(); ++slot)
    if (step.inputs[slot].parameter) step.inputs[slot].constant = parameter_value(operation, slot);
  turn_channels(step);
  if (operation.chip().fused_relu.value_or(false)) {
    step.kernel = [kernel = std::move(step.kernel)](const Tensors& inputs) {
      Tensors results = kernel(inputs);
      results[0] = at::relu(results[0]);
      return results;
    };
  }
  return step;
}

void turn_channels(Step& step) {
  const LayoutRule rule = definition_of(*step.operation).layout;
  if (rule != LayoutRule::ChannelsLast && rule != LayoutRule::Resize) return;
  for (StepInput& input : step.inputs)
    if (input.variable && !input.parameter) input.layout = Layout::ChannelsFirst;
  for (StepOutput& output : step.outputs) output.layout = Layout::ChannelsFirst;
}

at::Tensor look_up_table(const Operation& operation) {
  return operation.chip().table ? operation.chip().table->value() : at::Tensor();
}

void use_training(Step& step, const ExecutionSettings& settings, TrainingContext context, bool may_be_node) {
  const GradientOptions& gradients = settings.gradients;
  for (StepInput& input : step.inputs) {
    const auto computed = input.parameter ? gradients.parameters.find(input.variable) : gradients.parameters.end();
    if (computed != gradients.parameters.end()) input.parameter = computed->second;
  }
  const auto change = gradients.results.find(step.operation);
  const bool changed = change != gradients.results.end();
  const SharedRounding result = context.result;
  const bool relu = context.relu;
  if (changed) {  // which comes before the rounding
    context.result = nullptr;
    context.relu = false;
  }
  // A node skips values that a hook wants to see.
  const bool single = may_be_node && !settings.watched && step.outputs.size() == 1;
  const TrainingFactory factory = single ? definition_of(*step.operation).training.node : nullptr;
  const TrainingNode node = factory ? factory(context) : nullptr;
  if (node) {
    step.kernel = [node](const Tensors& inputs) { return Tensors{node(inputs)}; };
  } else {
    for (size_t slot = 0; slot < context.operands.size(); ++slot)
      if (context.operands[slot])
        step.inputs[slot].round = [rounding = context.operands[slot]](const at::Tensor& value) {
          return rounding->round(value);
        };
  }
  if (changed) {
    step.kernel = [kernel = std::move(step.kernel), change = change->second](const Tensors& inputs) {
      Tensors results = kernel(inputs);
      results[0] = change(results[0]);
      return results;
    };
  }
  if (result && (changed || !node))
    step.outputs[0].round = [result, relu](const at::Tensor& value) { return result->round(value, relu); };
}

void check_input(const Graph& graph, const Variable& input, const at::Tensor& value) {
  user_check(value.defined(), "input '{}': no tensor was given", input.name());
  if (!input.shape()) return;
  const Shape& want = *input.shape();
  bool same = value.dim() == static_cast<int64_t>(want.size());
  for (size_t axis = 0; same && axis < want.size(); ++axis)
    same = value.size(axis) == want[axis] || (axis == 0 && !graph.is_chip());
  user_check(same, "input '{}': shape {} was given, {} is expected", input.name(), shape_text(value.sizes()),
             shape_text(want));
}

at::Tensor input_codes(const Graph& graph, const Variable& input, const at::Tensor& value) {
  const Grid grid = variable_grid(&input);
  if (value.is_floating_point())
    return quantize_to_codes(value.to(at::kFloat).contiguous(), grid.exponents, -1, grid.bits,
                             graph.target()->rounding);
  user_check(value.scalar_type() == input.storage()->dtype,
             "input '{}': dtype {} was given; give {} (the integers of the file) or float32", input.name(),
             c10::toString(value.scalar_type()), c10::toString(input.storage()->dtype));
  return value.to(at::kFloat);
}

at::Tensor enter_floats(const Graph& graph, const Variable& input, const at::Tensor& value) {
  check_input(graph, input, value);
  const Grid grid = graph.is_chip() ? variable_grid(&input) : Grid{};
  if (grid.quantized()) return dequantize(input_codes(graph, input, value), grid.exponents, -1);
  return value.scalar_type() == at::kDouble ? value.to(at::kFloat) : value;
}

}  // namespace espq
