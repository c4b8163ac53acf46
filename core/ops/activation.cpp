#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include <cmath>

#include "core/ops/arguments.h"
#include "core/ops/chip_math.h"
#include "core/ops/code_map.h"
#include "core/ops/entry.h"
#include "core/ops/families.h"
#include "core/ops/swish_gradient.h"
#include "core/ops/table.h"
#include "core/support/error.h"

namespace espq {
namespace {

using Type = AttributeSpec::Type;

at::Tensor bounded(const at::Tensor& x, const Tensors& inputs) {
  const auto bound = [&](size_t slot) -> std::optional<at::Scalar> {
    if (!has_input(inputs, slot)) return std::nullopt;
    return inputs[slot].item();
  };
  const auto low = bound(1), high = bound(2);
  return low || high ? at::clamp(x, low, high) : x;
}

Tensors hard_sigmoid(const ForwardContext& context, const Tensors& inputs) {
  const float alpha = context.operation.float_attribute("alpha");
  const float beta = context.operation.float_attribute("beta");
  return one(at::clamp(inputs[0] * alpha + beta, 0, 1));
}

Tensors swish(const ForwardContext& context, const Tensors& inputs) {
  const float alpha = context.operation.float_attribute("alpha");
  if (alpha == 1 && context.chip) {
    if (const at::Tensor result = swish_with_gradient(inputs[0]); result.defined()) return one(result);
  }
  return one(inputs[0] * at::sigmoid(alpha == 1 ? inputs[0] : inputs[0] * alpha));
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

// ---------------------------------------------------------------------------------------------- PRelu
/// The int8 vector kernels of S3 and P4: one rounding shift, of code * slope or of the code. Products of int8 codes and
/// their multiples by powers of two are float32 numbers.
struct VectorPRelu {
  float negative, positive;  ///< 2^-(e_out - e_in - e_slope), 2^-(e_out - e_in)
  chip::Rounder round;

  VectorPRelu(int shift, int rescale, Rounding rounding)
      : negative(std::ldexp(1.0f, -shift)), positive(std::ldexp(1.0f, -rescale)), round(rounding, 8) {
    // The multiplier is held in an int8 lane: 2^7 is -128 there, larger ones are 0.
    if (rescale < 0) positive = rescale < -7 ? 0.0f : static_cast<float>(static_cast<int8_t>(1 << -rescale));
  }
  float operator()(float code, float slope) const { return round(code * (code < 0 ? slope * negative : positive)); }
};

/// The generic C kernel runs on chips without vector units, and at 16 bit everywhere.
bool runs_plain_prelu(const Target& target, int bits) { return bits != 8 || target.simd == SimdFamily::None; }

/// That kernel: negatives are floored, positives ignore a change of exponent.
struct PlainPRelu {
  int shift;  ///< e_out - e_in - e_slope
  int bits;

  float operator()(float code, float slope) const {
    if (code >= 0) return code;
    const auto product = static_cast<int64_t>(code) * static_cast<int64_t>(slope);
    int64_t shifted = shift > 0 ? product >> std::min(shift, 31) : product << std::min(-shift, 31);
    shifted = bits == 8 ? static_cast<int16_t>(shifted) : static_cast<int32_t>(shifted);
    return std::clamp(static_cast<float>(shifted), static_cast<float>(quant_min(bits)),
                      static_cast<float>(quant_max(bits)));
  }
};

/// Slopes are indexed by the innermost axis of the tensor, whatever its layout.
template <typename Rule>
BoardKernel prelu_kernel(const BoardContext& context, Rule rule) {
  return [rule, name = context.operation.name()](const Tensors& inputs) -> Tensors {
    const at::Tensor codes = inputs[0].contiguous();
    const int64_t channels = codes.size(-1), slopes = inputs[1].numel();
    user_check(slopes == 1 || slopes >= channels,
               "operation '{}' (PRelu): {} slopes for an innermost axis of {}: the chip library indexes slopes by the "
               "innermost axis; put channels last",
               name, slopes, channels);
    at::Tensor slope = inputs[1].reshape({-1});
    slope = slopes == 1 ? slope.expand({channels}).contiguous() : slope.contiguous();
    at::Tensor result = at::empty_like(codes);
    const float* from = codes.const_data_ptr<float>();
    const float* alpha = slope.const_data_ptr<float>();
    float* to = result.data_ptr<float>();
    at::parallel_for(0, codes.numel() / std::max<int64_t>(channels, 1), 256, [&](int64_t begin, int64_t end) {
      const Rule local = rule;  // a copy that stores to the result cannot alias
      for (int64_t row = begin; row < end; ++row) {
        const float* in = from + row * channels;
        float* out = to + row * channels;
        for (int64_t i = 0; i < channels; ++i) out[i] = local(in[i], alpha[i]);
      }
    });
    return {result};
  };
}

/// On P4 the rounding of negative products is not documented; half-even is what the incumbent's numbers and this kernel
/// use.
BoardKernel prelu_board(const BoardContext& context) {
  if (!context.inputs[0].quantized()) return board_on_values(context);
  const int e_in = context.inputs[0].exponent(), e_out = context.outputs[0].exponent();
  const int bits = context.inputs[0].bits, shift = e_out - e_in - context.inputs[1].exponent();
  if (!runs_plain_prelu(context.target, bits))
    return prelu_kernel(context, VectorPRelu(shift, e_out - e_in, context.target.rounding));
  if (bits == 8 && shift > 0) {
    const float negative = std::ldexp(1.0f, -shift);
    return prelu_kernel(context, [negative, floor = chip::Rounder::down(8)](float code, float slope) {
      return code < 0 ? floor(code * slope * negative) : code;
    });
  }
  return prelu_kernel(context, PlainPRelu{shift, bits});
}

// ---------------------------------------------------------------------------------------------- table
struct Row {
  std::string_view name;
  ForwardFunction forward;
  BoardFactory board;
  std::vector<AttributeSpec> attributes;
  bool quantizable;
  bool table_int16;
  ChipSupport chip;
};

constexpr ChipSupport kTableOnly{
    .registered = true, .int8 = true, .int16 = true, .reads_int16_table = true, .note = "needs a lookup table"};

std::vector<Row> rows() {
  return {
      {"Relu",
       [](const ForwardContext&, const Tensors& in) { return one(at::relu(in[0])); },
       relu_board,
       {},
       true,
       false,
       kAllWidths},
      {"LeakyRelu",
       [](const ForwardContext& context, const Tensors& in) {
         return one(at::leaky_relu(in[0], context.operation.float_attribute("alpha")));
       },
       leaky_relu_board,
       {real("alpha", 0.01f)},
       true,
       true,
       kAllWidths},
      {"Sigmoid",
       [](const ForwardContext&, const Tensors& in) { return one(at::sigmoid(in[0])); },
       sigmoid_board,
       {},
       true,
       true,
       kAllWidths},
      {"Tanh",
       [](const ForwardContext&, const Tensors& in) { return one(at::tanh(in[0])); },
       tanh_board,
       {},
       true,
       true,
       kAllWidths},
      {"HardSigmoid",
       hard_sigmoid,
       hard_sigmoid_board,
       {real("alpha", 0.2f), real("beta", 0.5f)},
       true,
       true,
       kAllWidths},
      {"HardSwish",
       [](const ForwardContext&, const Tensors& in) { return one(at::hardswish(in[0])); },
       hard_swish_board,
       {},
       true,
       true,
       kAllWidths},
      {"Swish", swish, swish_board, {real("alpha", 1.0f)}, true, true, kAllWidths},
      {"Elu",
       [](const ForwardContext& context, const Tensors& in) {
         return one(at::elu(in[0], context.operation.float_attribute("alpha")));
       },
       elu_board,
       {real("alpha", 1.0f)},
       true,
       true,
       kAllWidths},
      {"Gelu",
       [](const ForwardContext& context, const Tensors& in) {
         return one(at::gelu(in[0], context.operation.string_attribute("approximate")));
       },
       table_board,
       {{.name = "approximate", .type = Type::String, .fallback = Attribute(std::string("none"))}},
       true,
       true,
       kTableOnly},
      {"Exp",
       [](const ForwardContext&, const Tensors& in) { return one(at::exp(in[0])); },
       exp_board,
       {},
       true,
       true,
       kAllWidths},
      {"Log",
       [](const ForwardContext&, const Tensors& in) { return one(at::log(in[0])); },
       log_board,
       {},
       false,
       true,
       kAllWidths},
      {"Sqrt",
       [](const ForwardContext&, const Tensors& in) { return one(at::sqrt(in[0])); },
       sqrt_board,
       {},
       false,
       true,
       kAllWidths},
      {"Neg",
       [](const ForwardContext&, const Tensors& in) { return one(at::neg(in[0])); },
       neg_board,
       {},
       true,
       false,
       kAllWidths},
  };
}

OperatorDefinition definition(Row row) {
  OperatorDefinition result;
  result.name = row.name;
  result.inputs = {{"X"}};
  result.outputs = {{"Y"}};
  result.attributes = std::move(row.attributes);
  result.forward = row.forward;
  result.board = row.board;
  result.quantization.quantizable = row.quantizable;
  result.quantization.table_int8 = true;
  result.quantization.table_int16 = row.table_int16;
  result.layout = LayoutRule::Follows;
  result.chip = row.chip;
  return result;
}

OperatorDefinition clip() {
  OperatorDefinition result =
      definition({"Clip",
                  [](const ForwardContext&, const Tensors& in) { return one(bounded(in[0], in)); },
                  clip_board,
                  {},
                  true,
                  false,
                  kAllWidths});
  result.inputs = {{"input"},
                   {.name = "min", .role = OperandRole::Follows, .optional = true},
                   {.name = "max", .role = OperandRole::Follows, .optional = true}};
  result.quantization.fused_activation = true;
  return result;
}

OperatorDefinition parametric_relu() {
  OperatorDefinition result = definition({"PRelu", prelu, prelu_board, {}, true, false, kAllWidths});
  result.inputs = {{"X"}, {"slope"}};
  result.quantization.passes_codes = runs_plain_prelu;
  result.chip.note =
      "the slope of shape [C,1,1] is indexed by the innermost axis; one slope needs a lookup table at int8";
  return result;
}

}  // namespace

void register_activation_operators(Registry& registry) {
  for (auto& row : rows()) {
    OperatorDefinition entry = definition(std::move(row));
    entry.quantization.fused_activation = entry.name == "Relu";
    if (entry.name == "Relu") entry.training_node = TrainingNode::Relu;
    if (entry.name == "Swish") entry.training_node = TrainingNode::Swish;
    if (entry.name == "Neg") entry.quantization.passes_codes = [](const Target&, int bits) { return bits != 8; };
    registry.add(std::move(entry));
  }
  registry.add(clip());
  registry.add(parametric_relu());
}

}  // namespace espq
