#include <c10/core/GradMode.h>

#include <cmath>

#include "core/ops/arguments.h"
#include "core/ops/board/chip_math.h"
#include "core/ops/board/code_map.h"
#include "core/ops/board/prelu.h"
#include "core/ops/families.h"
#include "core/ops/limits.h"
#include "core/ops/lookup_table.h"
#include "core/ops/row.h"
#include "core/ops/training/clip_gradient.h"
#include "core/ops/training/swish_gradient.h"
#include "core/ops/training/training.h"
#include "core/support/error.h"

namespace espq {
namespace {

Tensors clip(const ForwardContext&, const Tensors& inputs) {
  const auto bound = [&](size_t slot) -> std::optional<at::Scalar> {
    if (!has_input(inputs, slot)) return std::nullopt;
    return inputs[slot].item();
  };
  const auto low = bound(1), high = bound(2);
  return one(low || high ? at::clamp(inputs[0], low, high) : inputs[0]);
}

ClipBounds relu_bounds(const Tensors&) { return {.low = 0}; }

ClipBounds clip_bounds(const Tensors& operands) {
  ClipBounds bounds;
  if (has_input(operands, 1)) bounds.low = operands[1].item<float>();
  if (has_input(operands, 2)) bounds.high = operands[2].item<float>();
  return bounds;
}

TrainingNode clip_training(const TrainingContext& context) {
  return [context](const Tensors& in) {
    Tensors operands;
    for (size_t slot = 0; slot < in.size(); ++slot) operands.push_back(context.operand(in, slot));
    const at::Tensor result = clip_with_gradient(operands[0], clip_bounds(operands));
    return context.finished(result.defined() ? result : clip(context.forward, operands)[0]);
  };
}

Tensors leaky_relu(const ForwardContext& context, const Tensors& inputs) {
  return one(at::leaky_relu(inputs[0], context.operation.float_attribute("alpha")));
}

Tensors elu(const ForwardContext& context, const Tensors& inputs) {
  return one(at::elu(inputs[0], context.operation.float_attribute("alpha")));
}

Tensors gelu(const ForwardContext& context, const Tensors& inputs) {
  return one(at::gelu(inputs[0], context.operation.string_attribute("approximate")));
}

Tensors hard_sigmoid(const ForwardContext& context, const Tensors& inputs) {
  const float alpha = context.operation.float_attribute("alpha");
  const float beta = context.operation.float_attribute("beta");
  return one(at::clamp(inputs[0] * alpha + beta, 0, 1));
}

Tensors swish(const ForwardContext& context, const Tensors& inputs) {
  const float alpha = context.operation.float_attribute("alpha");
  return one(inputs[0] * at::sigmoid(alpha == 1 ? inputs[0] : inputs[0] * alpha));
}

TrainingNode swish_training(const TrainingContext& context) {
  if (!context.forward.chip || context.forward.operation.float_attribute("alpha") != 1) return nullptr;
  std::optional<GridRounding> inside;
  if (context.fixed_result()) inside = *context.fixed_result();
  return [context, inside](const Tensors& in) {
    const at::Tensor x = context.operand(in, 0);
    if (inside && has_grid_rows(x, inside->grid.exponents))
      if (at::Tensor result = swish_with_gradient(x, row_rounding(*inside, context.relu)); result.defined())
        return result;
    const at::Tensor result = swish_with_gradient(x);
    return context.finished(result.defined() ? result : swish(context.forward, {x})[0]);
  };
}

/// A chip graph indexes the slopes [C, 1, 1] by the innermost axis.
Tensors prelu(const ForwardContext& context, const Tensors& inputs) {
  const at::Tensor slope = context.lowered ? inputs[1].flatten() : inputs[1];
  return one(at::where(inputs[0] < 0, inputs[0] * slope, inputs[0]));
}

// ---------------------------------------------------------------------------------------------- exact kernels
// Float formulas of chip library 3.3.9; constants without suffix are doubles there, and so are the products with them.

float chip_sigmoid(float x) { return static_cast<float>(1.0 / (1.0 + std::exp(-x))); }

BoardKernel relu_board(const BoardContext& context) {
  return value_map(context, [](float x) { return x > 0 ? x : 0.0f; });
}

BoardKernel leaky_relu_board(const BoardContext& context) {
  if (!context.inputs[0].quantized()) return board_on_values(context);
  const chip::Rounder round(context.target.rounding, context.outputs[0].bits);
  const float scale = chip::scale(context.inputs[0].exponent());
  const float inverse = chip::inverse_scale(context.outputs[0].exponent());
  const float alpha = context.operation.float_attribute("alpha");
  return code_map(context, [=](float code) {
    const float rescaled = code * scale * inverse;
    return round(code >= 0 ? rescaled : rescaled * alpha);
  });
}

/// Bounds are codes on the input's grid; the clipped code is rescaled in float.
BoardKernel clip_board(const BoardContext& context) {
  if (!context.inputs[0].quantized()) return board_on_values(context);
  const int bits = context.inputs[0].bits;
  const auto bound = [&](size_t slot, double fallback) {
    if (slot >= context.inputs.size() || !context.operation.input(slot)) return static_cast<float>(fallback);
    internal_check(has_input(context.parameters, slot), "Clip bounds of a chip graph are constants");
    return context.parameters[slot].item<float>();
  };
  const float low = bound(1, quant_min(bits)), high = bound(2, quant_max(bits));
  const float rescale = chip::scale(context.inputs[0].exponent()) * chip::inverse_scale(context.outputs[0].exponent());
  const chip::Rounder round(context.target.rounding, context.outputs[0].bits);
  return code_map(context, [=](float code) { return round((code < low ? low : code > high ? high : code) * rescale); });
}

BoardKernel sigmoid_board(const BoardContext& context) { return value_map(context, chip_sigmoid); }

BoardKernel tanh_board(const BoardContext& context) {
  return value_map(context, [](float x) { return 2 * chip_sigmoid(2 * x) - 1; });
}

/// The chip library has no alpha: other values than 1 need a lookup table.
BoardKernel swish_board(const BoardContext& context) {
  user_check(context.operation.float_attribute("alpha") == 1 || !context.inputs[0].quantized(),
             "operation '{}' (Swish): the chip library computes alpha = 1 only; give the operation a lookup table",
             context.operation.name());
  return value_map(context, [](float x) { return chip_sigmoid(x) * x; });
}

BoardKernel hard_sigmoid_board(const BoardContext& context) {
  const float alpha = context.operation.float_attribute("alpha");
  const float beta = context.operation.float_attribute("beta");
  return value_map(context, [=](float x) { return std::max(0.0f, std::min(1.0f, alpha * x + beta)); });
}

BoardKernel hard_swish_board(const BoardContext& context) {
  return value_map(context, [](float x) {
    return static_cast<float>(std::max(0.0, std::min(1.0, 0.166667 * x + 0.5)) * x);  // not 1/6
  });
}

BoardKernel elu_board(const BoardContext& context) {
  const float alpha = context.operation.float_attribute("alpha");
  return value_map(context, [=](float x) { return x >= 0 ? x : alpha * (std::exp(x) - 1); });
}

BoardKernel exp_board(const BoardContext& context) {
  return value_map(context, [](float x) { return std::exp(x); });
}

BoardKernel log_board(const BoardContext& context) {
  return value_map(context, [](float x) { return std::log(x); });
}

BoardKernel sqrt_board(const BoardContext& context) {
  return value_map(context, [](float x) { return std::sqrt(x); });
}

/// The code changes its sign, -128 becomes 127; a change of exponent is ignored.
BoardKernel neg_board(const BoardContext& context) {
  if (!context.inputs[0].quantized()) return board_on_values(context);
  const auto high = static_cast<float>(quant_max(context.inputs[0].bits));
  return code_map(context, [=](float code) { return std::min(-code, high); });
}

// ---------------------------------------------------------------------------------------------- limits
/// One slope at 8 bits becomes a table.
bool becomes_table(const Operation& operation, Width width) {
  const Variable* slope = operation.input(1);
  return width == Width::Int8 && slope && slope->is_parameter() && slope->value().numel() == 1;
}

/// The slopes must have the shape [C, 1, 1]; kernels read dimension 3 of the input. At 16 bits and in float one slope
/// in the shape [1, 1, 1] does as well.
const Limit kSlopes{.what = "slopes other than [C, 1, 1] for a tensor of four dimensions",
                    .remedy = "Reshape the tensor to [N, C, H, W], and give one slope per channel",
                    .asked = [](const Operation& operation, const Deployment&, Width width) {
                      const Variable* slope = operation.input(1);
                      if (becomes_table(operation, width) || !slope || !slope->is_parameter()) return false;
                      const auto shape = image_shape(operation, operation.input(0));
                      if (shape && shape->size() != 4) return true;
                      const at::IntArrayRef slopes = slope->value().sizes();
                      if (slopes.size() != 3 || slopes[1] != 1 || slopes[2] != 1) return true;
                      return shape && slopes[0] != (*shape)[1] && !(slopes[0] == 1 && width != Width::Int8);
                    }};
const Limit kSlopedSamples{.what = "more than one sample at a time",
                           .remedy = "give the network a batch of 1",
                           .asked = [](const Operation& operation, const Deployment& deployment, Width width) {
                             return !width.is_float() && !becomes_table(operation, width) &&
                                    kOneSample.asked(operation, deployment, width);
                           }};

/// Its float kernel takes the smallest positive number for a lower bound that is left out.
const Limit kOpenBelow{.what = "an upper bound alone in float",
                       .remedy = "give a lower bound, too",
                       .asked = [](const Operation& operation, const Deployment&, Width width) {
                         return width.is_float() && !operation.input(1) && operation.input(2);
                       }};

const Limit kSwishFactor{.what = "another alpha than 1 without a lookup table",
                         .remedy = "let the quantizer make a table of it (8 bits, or tables at 16 bits)",
                         .asked = [](const Operation& operation, const Deployment&, Width width) {
                           // At 16 bits the quantizer makes a table: only what is still a Swish on the chip is wrong.
                           const bool table = width == Width::Int16 && !operation.chip().kernels;
                           return width != Width::Int8 && !table && operation.float_attribute("alpha", 1) != 1;
                         }};

/// In training the slope at 0 is 0: infinite, it would make the gradient of the squares in front of it 0 * infinity.
Tensors square_root(const ForwardContext&, const Tensors& in) {
  if (!c10::GradMode::is_enabled() || !in[0].requires_grad()) return {at::sqrt(in[0])};
  const at::Tensor zero = in[0].eq(0);
  return {at::sqrt(in[0].masked_fill(zero, 1)).masked_fill(zero, 0)};
}

template <at::Tensor (*Function)(const at::Tensor&)>
Tensors unary(const ForwardContext&, const Tensors& in) {
  return one(Function(in[0]));
}

constexpr QuantizationRule kFunction{.quantizable = true, .table_int8 = true, .table_int16 = true};

}  // namespace

Operators activation_operators() {
  return {
      {.name = "Relu",
       .inputs = {{"X"}},
       .outputs = {{"Y"}},
       .forward = unary<at::relu>,
       .quantization = {.quantizable = true, .fused_activation = true, .table_int8 = true},
       .bounds = relu_bounds,
       .layout = LayoutRule::Elementwise,
       .chip = {.board = relu_board, .kernels = kAllWidths},
       .training = {.rectifies = true}},
      {.name = "LeakyRelu",
       .inputs = {{"X"}},
       .outputs = {{"Y"}},
       .attributes = {real("alpha", 0.01f)},
       .forward = leaky_relu,
       .quantization = kFunction,
       .layout = LayoutRule::Elementwise,
       .chip = {.board = leaky_relu_board, .kernels = kAllWidths}},
      {.name = "Sigmoid",
       .inputs = {{"X"}},
       .outputs = {{"Y"}},
       .forward = unary<at::sigmoid>,
       .quantization = kFunction,
       .layout = LayoutRule::Elementwise,
       .chip = {.board = sigmoid_board, .kernels = kAllWidths}},
      {.name = "Tanh",
       .inputs = {{"X"}},
       .outputs = {{"Y"}},
       .forward = unary<at::tanh>,
       .quantization = kFunction,
       .layout = LayoutRule::Elementwise,
       .chip = {.board = tanh_board, .kernels = kAllWidths}},
      {.name = "HardSigmoid",
       .inputs = {{"X"}},
       .outputs = {{"Y"}},
       .attributes = {real("alpha", 0.2f), real("beta", 0.5f)},
       .forward = hard_sigmoid,
       .quantization = kFunction,
       .layout = LayoutRule::Elementwise,
       .chip = {.board = hard_sigmoid_board, .kernels = kAllWidths}},
      {.name = "HardSwish",
       .inputs = {{"X"}},
       .outputs = {{"Y"}},
       .forward = unary<at::hardswish>,
       .quantization = kFunction,
       .layout = LayoutRule::Elementwise,
       .chip = {.board = hard_swish_board, .kernels = kAllWidths, .note = "divides by 6 as a factor of 0.166667"}},
      {.name = "Swish",
       .inputs = {{"X"}},
       .outputs = {{"Y"}},
       .attributes = {real("alpha", 1.0f)},
       .forward = swish,
       .quantization = kFunction,
       .layout = LayoutRule::Elementwise,
       .chip = {.board = swish_board, .kernels = kAllWidths, .limits = {kSwishFactor}, .note = "alpha is never read"},
       .training = {.node = swish_training}},
      {.name = "Elu",
       .inputs = {{"X"}},
       .outputs = {{"Y"}},
       .attributes = {real("alpha", 1.0f)},
       .forward = elu,
       .quantization = kFunction,
       .layout = LayoutRule::Elementwise,
       .chip = {.board = elu_board, .kernels = kAllWidths}},
      {.name = "Gelu",
       .inputs = {{"X"}},
       .outputs = {{"Y"}},
       .attributes = {text("approximate", "none")},
       .forward = gelu,
       .quantization = kFunction,
       .layout = LayoutRule::Elementwise,
       .chip = {.board = table_board,
                .kernels = kIntegerWidths,
                .reads_int16_table = true,
                .note = "reads a lookup table at both widths"}},
      {.name = "Exp",
       .inputs = {{"X"}},
       .outputs = {{"Y"}},
       .forward = unary<at::exp>,
       .quantization = kFunction,
       .layout = LayoutRule::Elementwise,
       .chip = {.board = exp_board, .kernels = kAllWidths}},
      {.name = "Log",
       .inputs = {{"X"}},
       .outputs = {{"Y"}},
       .forward = unary<at::log>,
       .quantization = {.table_int8 = true, .table_int16 = true},
       .layout = LayoutRule::Elementwise,
       .chip = {.board = log_board, .kernels = kAllWidths}},
      {.name = "Sqrt",
       .inputs = {{"X"}},
       .outputs = {{"Y"}},
       .forward = square_root,
       .quantization = {.table_int8 = true, .table_int16 = true},
       .layout = LayoutRule::Elementwise,
       .chip = {.board = sqrt_board, .kernels = kAllWidths}},
      {.name = "Neg",
       .inputs = {{"X"}},
       .outputs = {{"Y"}},
       .forward = unary<at::neg>,
       .quantization = {.quantizable = true,
                        .passes_codes = [](const Target&, int bits) { return bits != 8; },
                        .table_int8 = true},
       .layout = LayoutRule::Elementwise,
       .chip = {.board = neg_board, .kernels = kAllWidths}},
      {.name = "Clip",
       .inputs = {{"input"},
                  optional(operand("min", OperandRole::Follows)),
                  optional(operand("max", OperandRole::Follows))},
       .outputs = {{"Y"}},
       .forward = clip,
       .quantization = {.quantizable = true, .fused_activation = true, .table_int8 = true},
       .bounds = clip_bounds,
       .layout = LayoutRule::Elementwise,
       .chip = {.board = clip_board,
                .kernels = kAllWidths,
                .limits = {needs_constants<1, 2>("bounds that the network computes"), kOpenBelow}},
       .training = {.node = clip_training}},
      {.name = "PRelu",
       .inputs = {{"X"}, {"slope"}},
       .outputs = {{"Y"}},
       .forward = prelu,
       .quantization = {.quantizable = true, .passes_codes = runs_plain_prelu, .table_int8 = true},
       .layout = LayoutRule::Elementwise,
       .chip = {.board = prelu_board,
                .kernels = kAllWidths,
                .limits = {needs_constants<1>("slopes that the network computes"), kSlopes, kSlopedSamples},
                .note = "one slope for all channels becomes a table at 8 bits. What the vector kernel of the S3 does "
                        "with negative codes at 16 bits was not seen on a board"}},
  };
}

}  // namespace espq
