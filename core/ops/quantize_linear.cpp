#include "core/ops/quantize_linear.h"

#include <ATen/Parallel.h>

#include "core/ops/arguments.h"
#include "core/ops/board/chip_math.h"
#include "core/ops/families.h"
#include "core/ops/limits.h"
#include "core/ops/row.h"
#include "core/support/error.h"

namespace espq {
namespace {

// ---------------------------------------------------------------------------------------------- ONNX semantics
/// Integer range of a storage dtype.
std::pair<double, double> integer_range(const Operation& operation, at::ScalarType dtype) {
  switch (dtype) {
    case at::kByte:
      return {0, 255};
    case at::kChar:
      return {-128, 127};
    case at::kUInt16:
      return {0, 65535};
    case at::kShort:
      return {-32768, 32767};
    case at::kInt:
      return {-2147483648.0, 2147483647.0};
    default:
      user_error("operation '{}' ({}): quantizing to {} is not supported; use int8, uint8, int16, uint16 or int32",
                 operation.name(), operation.type(), at::toString(dtype));
  }
}

/// Scale or zero point brought to the rank of x: per tensor, per axis, or blocked along the axis.
at::Tensor spread(const Operation& operation, const at::Tensor& parameter, const at::Tensor& x) {
  if (parameter.numel() == 1 && parameter.dim() <= 1) return parameter.reshape({});
  const int64_t axis = wrap_axis(operation, operation.int_attribute("axis", 1), x.dim());
  if (parameter.dim() == 1) {
    std::vector<int64_t> shape(x.dim(), 1);
    shape[axis] = parameter.numel();
    return parameter.reshape(shape);
  }
  const int64_t block = operation.int_attribute("block_size", 0);
  user_check(block > 0, "operation '{}' ({}): a scale of {} dimensions needs the attribute block_size",
             operation.name(), operation.type(), parameter.dim());
  return parameter.repeat_interleave(block, axis).narrow(axis, 0, x.size(axis));
}

/// In a chip graph values flow as floats and the slots round, so all three operators keep the value there.
Tensors quantize(const ForwardContext& context, const Tensors& inputs) {
  if (context.lowered) return one(inputs[0]);
  const Operation& operation = context.operation;
  const int64_t code = operation.int_attribute("output_dtype", 0);
  const at::ScalarType dtype = has_input(inputs, 2) ? inputs[2].scalar_type()
                               : code != 0          ? dtype_of_onnx(operation, code)
                                                    : at::kByte;
  const auto [low, high] = integer_range(operation, dtype);
  at::Tensor codes = at::round(inputs[0].to(at::kFloat) / spread(operation, inputs[1].to(at::kFloat), inputs[0]));
  if (has_input(inputs, 2)) codes = codes + spread(operation, inputs[2].to(at::kFloat), inputs[0]);
  return one(codes.clamp(low, high).to(at::kInt).to(dtype));
}

Tensors dequantize_forward(const ForwardContext& context, const Tensors& inputs) {
  if (context.lowered) return one(inputs[0]);
  const Operation& operation = context.operation;
  at::Tensor codes = inputs[0].to(at::kInt);
  if (has_input(inputs, 2)) codes = codes - spread(operation, inputs[2].to(at::kInt), inputs[0]);
  return one(codes.to(at::kFloat) * spread(operation, inputs[1].to(at::kFloat), inputs[0]));
}

/// A change of grid keeps the value; the rounding belongs to the slots.
Tensors requantize(const ForwardContext&, const Tensors& inputs) { return one(inputs[0]); }

// ---------------------------------------------------------------------------------------------- chip
template <typename Function>
Tensors map(const at::Tensor& input, Function function) {
  const at::Tensor x = input.to(at::kFloat).contiguous();
  at::Tensor result = at::empty_like(x);
  const float* from = x.const_data_ptr<float>();
  float* to = result.data_ptr<float>();
  at::parallel_for(0, x.numel(), 1 << 15, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to[i] = function(from[i]);
  });
  return {result};
}

/// Left shift on the vector units: the multiplier 2^count is held in one lane and wraps there (int8 on the S3 for
/// int8 -> int8, int16 otherwise).
float lane_multiplier(const Target& target, int bits_in, int bits_out, int count) {
  const bool int8_lane = target.int8_multipliers && bits_in == 8 && bits_out == 8;
  const int64_t power = count > 30 ? 0 : int64_t{1} << count;
  return static_cast<float>(int8_lane ? static_cast<int8_t>(power) : static_cast<int16_t>(power));
}

/// Grid to grid. Chip library 3.3.9: in float32 for up to 50 elements and on chips without vector unit, as an integer
/// shift otherwise.
BoardKernel convert_codes(const BoardContext& context) {
  const chip::Rounder round(context.target.rounding, context.outputs[0].bits);
  const int e_in = context.inputs[0].exponent(), e_out = context.outputs[0].exponent();
  if (e_in == e_out) {
    return [round](const Tensors& in) {
      return map(in[0], [&](float q) { return std::clamp(q, round.low, round.high); });
    };
  }
  const float scale = chip::scale(e_in), inverse = 1.0f / chip::scale(e_out);
  const bool vector = context.target.vector_unit;
  const int shift = e_out - e_in;
  const bool wide_multiplier = context.inputs[0].bits == 16 && context.outputs[0].bits == 16 && shift < -14;
  const float multiplier =
      shift < 0 ? lane_multiplier(context.target, context.inputs[0].bits, context.outputs[0].bits, -shift)
                : std::ldexp(1.0f, -shift);
  return [=](const Tensors& in) {
    if (!vector || in[0].numel() <= 50 || wide_multiplier) {
      return map(in[0], [&](float q) { return round(q * scale * inverse); });
    }
    return map(in[0], [&](float q) { return round(q * multiplier); });  // exact: at most 16 significant bits
  };
}

/// One implementation for the three types: converts the codes of the input to the grid of the output.
BoardKernel convert_board(const BoardContext& context) {
  const Grid &input = context.inputs[0], &output = context.outputs[0];
  if (input.quantized() && output.quantized()) return convert_codes(context);
  if (output.quantized()) {
    const chip::Rounder round(context.target.rounding, output.bits);
    const float inverse = chip::inverse_scale(output.exponent());
    return [=](const Tensors& in) { return map(in[0], [&](float x) { return round(x * inverse); }); };
  }
  if (input.quantized()) {
    const float scale = chip::scale(input.exponent());
    return [=](const Tensors& in) { return map(in[0], [&](float q) { return q * scale; }); };
  }
  return board_on_values(context);
}

/// Of a tensor of a chip graph; before lowering there is none.
Grid stored_grid(const Variable* value) {
  if (!value || !value->storage()) return {};
  const at::ScalarType dtype = value->storage()->dtype;
  return {dtype == at::kChar ? 8 : dtype == at::kShort ? 16 : 0, value->storage()->exponents};
}

const Limit kHalfBlock{.what = "int8 to int16 where more than 50 codes leave a last block of 8 of 16",
                       .remedy = "keep both sides at one width or exponent, or convert by way of floats",
                       .asked = [](const Operation& operation, const Deployment& deployment, Width) {
                         const Grid from = stored_grid(operation.input(0)), to = stored_grid(operation.output());
                         const auto count = element_count(operation.input(0));
                         return count && loses_half_block(deployment.target, *count, from, to);
                       }};

OperatorDefinition conversion(std::string_view name, ForwardFunction forward) {
  return {.name = name,
          .inputs = {{"x"}, index_operand("scale"), optional(index_operand("zero_point"))},
          .outputs = {{"y"}},
          .attributes = {integer("axis"), integer("block_size"), integer("output_dtype"), integer("precision"),
                         integer("saturate")},
          .forward = forward,
          .quantization = {.converts = true},
          .layout = LayoutRule::Elementwise,
          .first_stage = Stage::Chip,
          .chip = {.board = convert_board,
                   .kernels = kAllWidths,
                   .limits = {kHalfBlock},
                   .note = "converts between the exponents of input and output; scale and zero point are ignored"}};
}

}  // namespace

bool loses_half_block(const Target& target, int64_t elements, const Grid& from, const Grid& to) {
  constexpr int64_t kOneByOne = 50;
  return target.vector_unit && from.bits == 8 && to.bits == 16 && from.exponents != to.exponents &&
         elements > kOneByOne && elements % vector_length(8) == vector_length(16);
}

bool wraps_multiplier(const Target& target, const Grid& from, const Grid& to) {
  const int left = from.exponent() - to.exponent();
  const bool one_by_one = from.bits == 16 && to.bits == 16;  // where the multiplier is that large
  return target.vector_unit && left > 0 && !one_by_one &&
         lane_multiplier(target, from.bits, to.bits, left) != std::ldexp(1.0f, left);
}

Operators quantize_linear_operators() {
  return {conversion("QuantizeLinear", quantize), conversion("RequantizeLinear", requantize),
          conversion("DequantizeLinear", dequantize_forward)};
}

}  // namespace espq
