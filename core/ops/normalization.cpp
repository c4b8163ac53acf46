#include <ATen/Parallel.h>

#include <cmath>

#include "core/ops/arguments.h"
#include "core/ops/board/chip_math.h"
#include "core/ops/families.h"
#include "core/ops/limits.h"
#include "core/ops/row.h"
#include "core/support/error.h"

namespace espq {
namespace {

// ---------------------------------------------------------------------------------------------- ONNX semantics
/// A vector of channels shaped to broadcast over [N, C, ...].
at::Tensor per_channel(const at::Tensor& values, const at::Tensor& x) {
  Shape shape(x.dim(), 1);
  if (x.dim() > 1) shape[1] = values.numel();
  return values.reshape(shape);
}

Tensors batch_normalization(const ForwardContext& context, const Tensors& in) {
  const Operation& operation = context.operation;
  const double epsilon = operation.float_attribute("epsilon");
  at::Tensor mean = in[3], variance = in[4];
  Tensors running;
  if (operation.int_attribute("training_mode") != 0) {
    std::vector<int64_t> axes = {0};
    for (int64_t i = 2; i < in[0].dim(); ++i) axes.push_back(i);
    const double momentum = operation.float_attribute("momentum");
    mean = in[0].mean(axes);
    variance = in[0].var(axes, /*correction=*/0);
    running = {in[3] * momentum + mean * (1 - momentum), in[4] * momentum + variance * (1 - momentum)};
  }
  const at::Tensor factor = in[1] / at::sqrt(variance + epsilon);
  Tensors result = one((in[0] - per_channel(mean, in[0])) * per_channel(factor, in[0]) + per_channel(in[2], in[0]));
  result.insert(result.end(), running.begin(), running.end());
  return result;
}

Tensors instance_normalization(const ForwardContext& context, const Tensors& in) {
  return one(
      at::instance_norm(in[0], in[1], in[2], {}, {}, true, 0.0, context.operation.float_attribute("epsilon"), false));
}

/// Scale and bias per group (opset 18) or per channel (opset 21).
Tensors group_normalization(const ForwardContext& context, const Tensors& in) {
  const int64_t groups = context.operation.int_attribute("num_groups"), channels = in[0].size(1);
  user_check(groups > 0 && channels % groups == 0, "operation '{}' (GroupNormalization): {} groups for {} channels",
             context.operation.name(), groups, channels);
  const auto spread = [&](const at::Tensor& values) {
    return values.numel() == channels ? values : values.repeat_interleave(channels / groups);
  };
  return one(at::group_norm(in[0], groups, spread(in[1]), spread(in[2]), context.operation.float_attribute("epsilon")));
}

Shape normalized_shape(const Operation& operation, const at::Tensor& x) {
  const int64_t axis = wrap_axis(operation, operation.int_attribute("axis"), x.dim());
  return {x.sizes().begin() + axis, x.sizes().end()};
}

Tensors layer_normalization(const ForwardContext& context, const Tensors& in) {
  const Shape shape = normalized_shape(context.operation, in[0]);
  const double epsilon = context.operation.float_attribute("epsilon");
  auto [y, mean, deviation] = at::native_layer_norm(in[0], shape, {}, {}, epsilon);
  y = y * in[1];
  if (has_input(in, 2)) y = y + in[2];
  return {y, mean, deviation};
}

Tensors rms_normalization(const ForwardContext& context, const Tensors& in) {
  const int64_t axis = wrap_axis(context.operation, context.operation.int_attribute("axis"), in[0].dim());
  std::vector<int64_t> axes;
  for (int64_t i = axis; i < in[0].dim(); ++i) axes.push_back(i);
  const at::Tensor mean = in[0].square().mean(axes, /*keepdim=*/true);
  return one(in[0] * at::rsqrt(mean + context.operation.float_attribute("epsilon")) * in[1]);
}

/// A zero vector stays zero.
Tensors lp_normalization(const ForwardContext& context, const Tensors& in) {
  const int64_t axis = wrap_axis(context.operation, context.operation.int_attribute("axis"), in[0].dim());
  const at::Tensor norm = at::norm(in[0], context.operation.int_attribute("p"), axis, /*keepdim=*/true);
  return one(in[0] / norm.clamp_min(1e-12));
}

/// Divides by a power of the mean square over `size` neighbouring channels, more of them behind than in front.
Tensors local_response_normalization(const ForwardContext& context, const Tensors& in) {
  const Operation& operation = context.operation;
  const int64_t size = operation.int_attribute("size");
  user_check(size > 0 && in[0].dim() > 1 && in[0].numel() > 0,
             "operation '{}' (LRN): needs a positive size and an input with channels", operation.name());
  const at::Tensor squares = in[0].square().reshape({in[0].size(0), 1, in[0].size(1), -1});
  const at::Tensor padded = at::constant_pad_nd(squares, {0, 0, (size - 1) / 2, size / 2});
  const at::Tensor mean = at::avg_pool2d(padded, {size, 1}, /*stride=*/{1, 1}).reshape(in[0].sizes());
  const at::Tensor base = mean * operation.float_attribute("alpha") + operation.float_attribute("bias");
  return one(in[0] / base.pow(operation.float_attribute("beta")));
}

// ---------------------------------------------------------------------------------------------- exact kernels
struct QuantizedGrids {
  float scale, inverse;
  chip::Rounder round;
  explicit QuantizedGrids(const BoardContext& context)
      : scale(chip::scale(context.inputs[0].exponent())),
        inverse(chip::inverse_scale(context.outputs[0].exponent())),
        round(context.target.rounding, context.outputs[0].bits) {}
};

bool quantized(const BoardContext& context) { return context.inputs[0].quantized() && context.outputs[0].quantized(); }

/// Runs `function(from, to)` on every vector of `length` neighbouring codes.
template <typename Function>
Tensors for_vectors(const at::Tensor& input, int64_t length, Function function) {
  const at::Tensor x = input.contiguous();
  at::Tensor result = at::empty_like(x);
  const float* from = x.const_data_ptr<float>();
  float* to = result.data_ptr<float>();
  at::parallel_for(0, length ? x.numel() / length : 0, 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) function(from + i * length, to + i * length);
  });
  return {result};
}

int64_t product(const Shape& shape) {
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  return count;
}

/// Integer sum; mean, variance and the rest in float32. Gamma and beta are codes of their own grids.
BoardKernel layer_normalization_board(const BoardContext& context) {
  if (!quantized(context)) return board_on_values(context);
  const Operation& operation = context.operation;
  const auto scale_of = [&](size_t slot) {
    return slot < context.inputs.size() && context.inputs[slot].quantized()
               ? chip::scale(context.inputs[slot].exponent())
               : 1.0f;
  };
  const float gamma_scale = scale_of(1), beta_scale = scale_of(2), epsilon = operation.float_attribute("epsilon");
  return [=, &operation, grids = QuantizedGrids(context)](const Tensors& in) -> Tensors {
    const int64_t length = product(normalized_shape(operation, in[0]));
    const at::Tensor gamma = in[1].contiguous(), beta = has_input(in, 2) ? in[2].contiguous() : at::Tensor();
    const float* gamma_codes = gamma.const_data_ptr<float>();
    const float* beta_codes = beta.defined() ? beta.const_data_ptr<float>() : nullptr;
    return for_vectors(in[0], length, [&](const float* from, float* to) {
      int64_t sum = 0;
      for (int64_t i = 0; i < length; ++i) sum += static_cast<int64_t>(from[i]);
      auto mean = static_cast<float>(static_cast<double>(sum) / static_cast<double>(length));
      float variance = 0;
      for (int64_t i = 0; i < length; ++i) {
        const float difference = from[i] - mean;
        variance += difference * difference;
      }
      mean *= grids.scale;
      variance *= grids.scale * grids.scale;
      variance /= static_cast<float>(length);
      const float inverse_deviation = 1.0f / chip::newton_sqrt(variance + epsilon);
      for (int64_t i = 0; i < length; ++i) {
        const float normalized = (from[i] * grids.scale - mean) * inverse_deviation;
        const float shift = beta_codes ? beta_codes[i] * beta_scale : 0.0f;
        to[i] = grids.round((normalized * (gamma_codes[i] * gamma_scale) + shift) * grids.inverse);
      }
    });
  };
}

float sum_of_squares(const float* from, int64_t length, int64_t stride) {
  int64_t sum = 0;
  for (int64_t i = 0; i < length; ++i) {
    const auto code = static_cast<int64_t>(from[i * stride]);
    sum += code * code;
  }
  return static_cast<float>(sum);
}

/// Gamma is float32.
BoardKernel rms_normalization_board(const BoardContext& context) {
  if (!quantized(context)) return board_on_values(context);
  const Operation& operation = context.operation;
  const float epsilon = operation.float_attribute("epsilon");
  const bool gamma_quantized = context.inputs[1].quantized();
  const float gamma_scale = gamma_quantized ? chip::scale(context.inputs[1].exponent()) : 1.0f;
  return [=, &operation, grids = QuantizedGrids(context)](const Tensors& in) -> Tensors {
    const int64_t length = product(normalized_shape(operation, in[0]));
    const at::Tensor gamma = (gamma_quantized ? in[1] * gamma_scale : in[1]).contiguous();
    const float* factors = gamma.const_data_ptr<float>();
    return for_vectors(in[0], length, [&](const float* from, float* to) {
      const float mean = sum_of_squares(from, length, 1) * (grids.scale * grids.scale) / static_cast<float>(length);
      const float factor = 1.0f / std::sqrt(mean + epsilon) * (grids.scale * grids.inverse);
      for (int64_t i = 0; i < length; ++i) to[i] = grids.round(from[i] * factor * factors[i]);
    });
  };
}

/// 1 / norm of one vector of codes; the exponent of the input cancels. 0 for a zero vector.
float inverse_norm(const float* from, int64_t length, int64_t stride, int64_t order) {
  float norm = 0;
  if (order == 1) {
    for (int64_t i = 0; i < length; ++i) norm += std::abs(from[i * stride]);
    return norm > 0 ? 1.0f / norm : 0.0f;
  }
  norm = sum_of_squares(from, length, stride);
  return norm > 0 ? 1.0f / std::sqrt(norm) : 0.0f;
}

BoardKernel lp_normalization_board(const BoardContext& context) {
  if (!quantized(context)) return board_on_values(context);
  const Operation& operation = context.operation;
  const int64_t order = operation.int_attribute("p");
  return [&operation, order, grids = QuantizedGrids(context)](const Tensors& in) -> Tensors {
    const int64_t axis = wrap_axis(operation, operation.int_attribute("axis"), in[0].dim());
    const int64_t length = in[0].size(axis);
    int64_t stride = 1;
    for (int64_t i = axis + 1; i < in[0].dim(); ++i) stride *= in[0].size(i);
    return for_vectors(in[0], length * stride, [&](const float* from, float* to) {
      for (int64_t k = 0; k < stride; ++k) {
        const float inverse = inverse_norm(from + k, length, stride, order);
        for (int64_t i = k; i < length * stride; i += stride) {
          // The innermost axis scales the norm first, the others the product.
          const float value = stride == 1 ? from[i] * (inverse * grids.inverse) : from[i] * inverse * grids.inverse;
          to[i] = grids.round(value);
        }
      }
    });
  };
}

// ---------------------------------------------------------------------------------------------- limits
/// Scale and bias are read as long as what they are for: axes in front of it must have one element.
bool covers_normalized_axes(const Shape& factors, const Shape& x, int64_t axis) {
  const auto missing = static_cast<int64_t>(x.size()) - static_cast<int64_t>(factors.size());
  for (int64_t i = 0; i < static_cast<int64_t>(x.size()); ++i) {
    const int64_t own = i < missing ? 1 : factors[i - missing];
    if (own != (i < axis ? 1 : x[i])) return false;
  }
  return missing >= 0;
}
const Limit kShortFactors{.what = "a scale or bias of another shape than the normalized axes",
                          .remedy = "expand it to their shape, or multiply and add behind",
                          .asked = [](const Operation& operation, const Deployment&, Width) {
                            const auto shape = shape_at_kernel(operation.input(0));
                            if (!shape || shape->empty()) return false;
                            const auto rank = static_cast<int64_t>(shape->size());
                            const int64_t axis = wrap_axis(operation, operation.int_attribute("axis", -1), rank);
                            for (const size_t slot : {1, 2})
                              if (const auto factors = shape_at_kernel(operation.input(slot));
                                  factors && !covers_normalized_axes(*factors, *shape, axis))
                                return true;
                            return false;
                          }};

/// It would write both with the operation's width; no exact kernel is there for them.
const Limit kStatistics{.what = "the outputs Mean and InvStdDev",
                        .remedy = "compute them with ReduceMean",
                        .asked = [](const Operation& operation, const Deployment&, Width) {
                          for (size_t i = 1; i < operation.outputs().size(); ++i)
                            if (operation.output(i)) return true;
                          return false;
                        }};

}  // namespace

Operators normalization_operators() {
  return {
      {.name = "LayerNormalization",
       .inputs = {{"X"}, {"scale"}, optional("bias")},
       .outputs = {{"Y"}, optional("Mean"), optional("InvStdDev")},
       .attributes = {real("epsilon", 1e-5f), integer("axis", -1), integer("stash_type", 1)},
       .forward = layer_normalization,
       .quantization = {.quantizable = true},
       .gain = GainRule{.gain = 1, .offset = 2},
       .chip = {.board = layer_normalization_board, .kernels = kAllWidths, .limits = {kShortFactors, kStatistics}}},
      {.name = "RMSNormalization",
       .inputs = {{"X"}, operand("scale", OperandRole::Float)},
       .outputs = {{"Y"}},
       .attributes = {real("epsilon", 1e-5f), integer("axis", -1), integer("stash_type", 1)},
       .forward = rms_normalization,
       .quantization = {.quantizable = true},
       .gain = GainRule{.gain = 1},
       .chip = {.board = rms_normalization_board,
                .kernels = kAllWidths,
                .limits = {kShortFactors},
                .note = "the scale is float32 at every width"}},
      {.name = "LpNormalization",
       .inputs = {{"X"}},
       .outputs = {{"Y"}},
       .attributes = {integer("axis", -1), integer("p", 2)},
       .forward = lp_normalization,
       .quantization = {.quantizable = true},
       .layout = LayoutRule::Axis,
       .chip = {.board = lp_normalization_board, .kernels = kAllWidths}},
      {.name = "BatchNormalization",
       .inputs = {{"X"},
                  {"scale"},
                  {"B"},
                  operand("input_mean", OperandRole::Statistics),
                  operand("input_var", OperandRole::Statistics)},
       .outputs = {{"Y"}, optional("running_mean"), optional("running_var")},
       .attributes = {real("epsilon", 1e-5f), real("momentum", 0.9f), integer("training_mode", 0)},
       .forward = batch_normalization,
       .chip = {.board = board_on_values}},
      {.name = "InstanceNormalization",
       .inputs = {{"X"}, {"scale"}, {"bias"}},
       .outputs = {{"Y"}},
       .attributes = {real("epsilon", 1e-5f)},
       .forward = instance_normalization,
       .chip = {.board = board_on_values}},
      {.name = "GroupNormalization",
       .inputs = {{"X"}, {"scale"}, {"bias"}},
       .outputs = {{"Y"}},
       .attributes = {real("epsilon", 1e-5f), required(integer("num_groups")), integer("stash_type", 1)},
       .forward = group_normalization,
       .chip = {.board = board_on_values}},
      {.name = "LRN",
       .inputs = {{"X"}},
       .outputs = {{"Y"}},
       .attributes = {real("alpha", 1e-4f), real("beta", 0.75f), real("bias", 1.0f), required(integer("size"))},
       .forward = local_response_normalization,
       .layout = LayoutRule::Restores,
       .chip = {.board = board_on_values}},
  };
}

}  // namespace espq
