#include <cmath>

#include "core/ops/arguments.h"
#include "core/ops/board/chip_math.h"
#include "core/ops/families.h"
#include "core/ops/kernels/broadcast.h"
#include "core/ops/limits.h"
#include "core/ops/row.h"
#include "core/ops/training/training.h"
#include "core/quant/quantize_gradient.h"
#include "core/support/error.h"

namespace espq {
namespace {

// ---------------------------------------------------------------------------------------------- ONNX semantics
/// LibTorch stores unsigned integers of 16 bits and more but does not compute with them: they go through int64.
template <typename Function>
Tensors widened(const Operation& operation, const Tensors& in, Function function) {
  const at::ScalarType type = in[0].scalar_type();
  if (type != at::kUInt16 && type != at::kUInt32 && type != at::kUInt64) return one(function(in));
  Tensors wide;
  for (const at::Tensor& operand : in) {
    wide.push_back(operand.to(at::kLong));
    user_check(type != at::kUInt64 || wide.back().ge(0).all().item<bool>(),
               "operation '{}' ({}): uint64 values above 2^63 - 1 are not supported", operation.name(),
               operation.type());
  }
  const at::Tensor result = function(wide);
  return one(result.scalar_type() == at::kLong ? result.to(type) : result);
}

at::Tensor divide(const at::Tensor& a, const at::Tensor& b) {
  return at::isIntegralType(a.scalar_type(), false) ? at::div(a, b, "trunc") : at::div(a, b);
}

Tensors power(const ForwardContext&, const Tensors& in) { return one(at::pow(in[0], in[1]).to(in[0].scalar_type())); }

/// fmod = 1: sign of the dividend (C); otherwise sign of the divisor. The chip library always computes C's fmod.
Tensors modulo(const ForwardContext& context, const Tensors& in) {
  const bool c_sign = context.chip || context.operation.int_attribute("fmod") != 0;
  return widened(context.operation, in, [&](const Tensors& operands) {
    return c_sign ? at::fmod(operands[0], operands[1]) : at::remainder(operands[0], operands[1]);
  });
}

template <at::Tensor (*Function)(const at::Tensor&, const at::Tensor&)>
Tensors binary(const ForwardContext& context, const Tensors& in) {
  return widened(context.operation, in, [](const Tensors& operands) { return Function(operands[0], operands[1]); });
}

at::Tensor add(const at::Tensor& a, const at::Tensor& b) { return at::add(a, b); }
at::Tensor subtract(const at::Tensor& a, const at::Tensor& b) { return at::sub(a, b); }

/// Max, Min, Sum, Mean of any number of operands, broadcast against each other.
template <at::Tensor (*Function)(const at::Tensor&, const at::Tensor&)>
Tensors reduce_operands(const ForwardContext& context, const Tensors& in) {
  return widened(context.operation, in, [](const Tensors& operands) {
    at::Tensor result = operands[0];
    for (size_t i = 1; i < operands.size(); ++i) result = Function(result, operands[i]);
    return result;
  });
}

Tensors mean_of_operands(const ForwardContext& context, const Tensors& in) {
  return one(reduce_operands<add>(context, in)[0] / static_cast<double>(in.size()));
}

TrainingNode add_training(const TrainingContext& context) {
  if (!context.fixed_result()) return nullptr;
  return [context, rounding = *context.fixed_result()](const Tensors& in) {
    return add_and_quantize_with_gradient(context.operand(in, 0), context.operand(in, 1), rounding, context.relu);
  };
}

// ---------------------------------------------------------------------------------------------- exact kernels
bool all_quantized(const BoardContext& context) {
  return context.inputs[0].quantized() && context.inputs[1].quantized();
}

/// clip(a + b) or clip(a - b) on raw codes; exponents are ignored.
template <int Sign>
BoardKernel add_board(const BoardContext& context) {
  if (!all_quantized(context) || !context.outputs[0].quantized()) return board_on_values(context);
  const chip::Rounder grid(context.target.rounding, context.outputs[0].bits);
  return [grid](const Tensors& in) -> Tensors {
    const Broadcast broadcast(in[0].sizes(), in[1].sizes());
    return {apply(broadcast, in[0], in[1],
                  [&](float a, float b) { return std::clamp(a + Sign * b, grid.low, grid.high); })};
  };
}

/// An integer product and one rounding shift where the vector unit runs; float32 elsewhere.
BoardKernel multiply_board(const BoardContext& context) {
  if (!all_quantized(context) || !context.outputs[0].quantized()) return board_on_values(context);
  const int e_a = context.inputs[0].exponent(), e_b = context.inputs[1].exponent(),
            e_out = context.outputs[0].exponent();
  const int bits = context.outputs[0].bits, shift = e_out - e_a - e_b;
  const int64_t vector_length = context.target.block(bits);
  const float rescale = chip::scale(e_a) * chip::scale(e_b) * chip::inverse_scale(e_out);
  const float factor = std::ldexp(1.0f, -shift);
  const chip::Rounder round(context.target.rounding, bits);
  return [=](const Tensors& in) -> Tensors {
    const Broadcast broadcast(in[0].sizes(), in[1].sizes());
    const auto run = [&](auto function) -> Tensors { return {apply(broadcast, in[0], in[1], function)}; };
    if (vector_length > 0 && broadcast.inner() >= vector_length) {
      // Products of int8 codes and their multiples by 2^-shift are float32 numbers; those of int16 need float64.
      if (bits == 8) return run([=](float a, float b) { return round(a * b * factor); });
      return run([=](float a, float b) {
        const double value = static_cast<double>(a) * static_cast<double>(b) * static_cast<double>(factor);
        return static_cast<float>(
            std::clamp(round_scalar(value, round.rounding), double{round.low}, double{round.high}));
      });
    }
    if (broadcast.inner_right() == 1) return run([=](float a, float b) { return round(a * (b * rescale)); });
    if (broadcast.inner_left() == 1) return run([=](float a, float b) { return round(b * (a * rescale)); });
    return run([=](float a, float b) {
      const auto product = static_cast<float>(static_cast<int32_t>(a) * static_cast<int32_t>(b));
      return round(product * rescale);
    });
  };
}

/// Division in the orders that the chip library uses for its vector and scalar forms.
struct Quotient {
  float rescale;
  chip::Rounder round;

  float by_zero(float a) const { return a > 0 ? round.high : round.low; }
  float elementwise(float a, float b) const { return a == 0 ? 0 : b == 0 ? by_zero(a) : round(a * rescale / b); }
  float by_scalar(float a, float b) const { return a == 0 ? 0 : b == 0 ? by_zero(a) : round(a * (rescale / b)); }
  float of_scalar(float a, float b) const { return a == 0 ? 0 : b == 0 ? by_zero(a) : round(a * rescale / b); }
  /// 256-entry tables of the int8 forms with a one-element operand: no rule for a zero scalar divisor, and 0 / 0 is the
  /// smallest code.
  float table_by_scalar(float a, float b) const { return a == 0 ? 0 : round(a * (rescale / b)); }
  float table_of_scalar(float a, float b) const { return b == 0 ? by_zero(a) : round(a * rescale / b); }
};

BoardKernel divide_board(const BoardContext& context) {
  if (!all_quantized(context) || !context.outputs[0].quantized()) return board_on_values(context);
  const float rescale = chip::inverse_scale(context.outputs[0].exponent()) * chip::scale(context.inputs[0].exponent()) /
                        chip::scale(context.inputs[1].exponent());
  const Quotient quotient{rescale, chip::Rounder(context.target.rounding, context.outputs[0].bits)};
  const bool int8 = context.outputs[0].bits == 8;
  return [=](const Tensors& in) -> Tensors {
    const Broadcast broadcast(in[0].sizes(), in[1].sizes());
    const auto run = [&](auto function) -> Tensors { return {apply(broadcast, in[0], in[1], function)}; };
    const bool table = int8 && (in[0].numel() == 1 || in[1].numel() == 1);
    const bool of_scalar = broadcast.inner_left() == 1, by_scalar = broadcast.inner_right() == 1;
    if (of_scalar && (int8 || !by_scalar)) {
      if (table) return run([=](float a, float b) { return quotient.table_of_scalar(a, b); });
      return run([=](float a, float b) { return quotient.of_scalar(a, b); });
    }
    if (by_scalar) {
      if (table) return run([=](float a, float b) { return quotient.table_by_scalar(a, b); });
      return run([=](float a, float b) { return quotient.by_scalar(a, b); });
    }
    return run([=](float a, float b) { return quotient.elementwise(a, b); });
  };
}

float chip_modulo(float a, float b) { return b != 0 ? std::fmod(a, b) : 0.0f; }
float chip_power(float a, float b) { return std::pow(a, b); }

/// Both operands as float32 values, the result rounded to the output grid.
template <float (*Function)(float, float)>
BoardKernel value_board(const BoardContext& context) {
  const auto scale = [&](const Grid& grid) { return grid.quantized() ? chip::scale(grid.exponent()) : 1.0f; };
  const float scale_a = scale(context.inputs[0]), scale_b = scale(context.inputs[1]);
  const Grid& output = context.outputs[0];
  const bool quantized = output.quantized();
  const float inverse = quantized ? chip::inverse_scale(output.exponent()) : 1.0f;
  const chip::Rounder round(context.target.rounding, quantized ? output.bits : 8);
  return [=](const Tensors& in) -> Tensors {
    const Broadcast broadcast(in[0].sizes(), in[1].sizes());
    return {apply(broadcast, in[0], in[1], [=](float a, float b) {
      const float value = Function(a * scale_a, b * scale_b);
      return quantized ? round(value * inverse) : value;
    })};
  };
}

// ---------------------------------------------------------------------------------------------- definitions
/// Groups of neighbouring dimensions along which two shapes broadcast alike: both full, or one of them 1 throughout.
size_t broadcast_groups(const Shape& a, const Shape& b) {
  const size_t rank = std::max(a.size(), b.size());
  const auto extent = [&](const Shape& shape, size_t i) {
    return i + shape.size() < rank ? 1 : shape[i + shape.size() - rank];
  };
  enum class Kind { Equal, First, Second };
  size_t groups = 0;
  std::optional<Kind> last;
  for (size_t i = 0; i < rank; ++i) {
    const int64_t x = extent(a, i), y = extent(b, i);
    if (x == 1 && y == 1) continue;
    const Kind kind = x == y ? Kind::Equal : x == 1 ? Kind::First : Kind::Second;
    groups += kind != last;
    last = kind;
  }
  return groups;
}

const Limit kLeftShift{.what = "a result finer than the product of the operands' grids",
                       .remedy = "calibrate with data that excites the result",
                       .asked =
                           [](const Operation& operation, const Deployment&, Width width) {
                             const auto a = stored_exponent(operation.input(0)),
                                        b = stored_exponent(operation.input(1));
                             const auto result = stored_exponent(operation.output());
                             return width != Width::Float && a && b && result && *result < *a + *b;
                           },
                       .holds = [](const Deployment& deployment) { return deployment.target.vector_unit; }};

/// The chip library merges neighbouring dimensions that broadcast alike, and loops over four.
const Limit kBroadcast{.what = "operands that broadcast along more than four groups of dimensions",
                       .remedy = "merge dimensions with a Reshape, or expand an operand",
                       .asked = [](const Operation& operation, const Deployment&, Width) {
                         const auto a = shape_at_kernel(operation.input(0)), b = shape_at_kernel(operation.input(1));
                         return a && b && broadcast_groups(*a, *b) > 4;
                       }};

/// A tensor without axes where it reaches the kernel: products of vectors and reductions have one there.
bool is_scalar_on_chip(const Variable* value) {
  if (!value || !value->shape() || !value->shape()->empty()) return false;
  const Operation* producer = value->producer();
  return !producer || !(producer->type() == "MatMul" || producer->type().starts_with("Reduce"));
}

const Limit kScalars{.what = "two operands without axes",
                     .remedy = "give one of them the shape [1]",
                     .asked = [](const Operation& operation, const Deployment&, Width) {
                       return is_scalar_on_chip(operation.input(0)) && is_scalar_on_chip(operation.input(1));
                     }};

const Limit kFloorModulo{.what = "fmod = 0: the result has the sign of the dividend",
                         .remedy = "write a - b * floor(a / b), or fmod = 1 where both are positive",
                         .asked = [](const Operation& operation, const Deployment&, Width) {
                           return operation.int_attribute("fmod", 0) == 0;
                         }};

constexpr QuantizationRule kAligned{.quantizable = true, .alignment = AlignmentClass::Elementwise};
constexpr QuantizationRule kComparison{
    .quantizable = true, .float_output = true, .alignment = AlignmentClass::Comparison};
constexpr QuantizationRule kLogic{.float_output = true};

Operators arithmetic() {
  return {
      {.name = "Add",
       .inputs = {operand("A", OperandRole::Mask), operand("B", OperandRole::Mask)},
       .outputs = {{"C"}},
       .forward = binary<add>,
       .quantization = kAligned,
       .layout = LayoutRule::Broadcast,
       .chip = {.board = add_board<1>, .kernels = kAllWidths, .limits = {kBroadcast, kScalars}},
       .training = {.node = add_training}},
      {.name = "Sub",
       .inputs = {{"A"}, {"B"}},
       .outputs = {{"C"}},
       .forward = binary<subtract>,
       .quantization = kAligned,
       .layout = LayoutRule::Broadcast,
       .chip = {.board = add_board<-1>, .kernels = kAllWidths, .limits = {kBroadcast, kScalars}}},
      {.name = "Mul",
       .inputs = {{"A"}, {"B"}},
       .outputs = {{"C"}},
       .forward = binary<at::mul>,
       .quantization = {.quantizable = true, .product = true},
       .layout = LayoutRule::Broadcast,
       .chip = {.board = multiply_board, .kernels = kAllWidths, .limits = {kLeftShift, kBroadcast, kScalars}}},
      {.name = "Div",
       .inputs = {{"A"}, {"B"}},
       .outputs = {{"C"}},
       .forward = binary<divide>,
       .quantization = {.quantizable = true},
       .layout = LayoutRule::Broadcast,
       .chip = {.board = divide_board, .kernels = kAllWidths, .limits = {kBroadcast, kScalars}}},
      {.name = "Mod",
       .inputs = {{"A"}, {"B"}},
       .outputs = {{"C"}},
       .attributes = {integer("fmod", 0)},
       .forward = modulo,
       .quantization = {.quantizable = true},
       .layout = LayoutRule::Broadcast,
       .chip = {.board = value_board<chip_modulo>,
                .kernels = kAllWidths,
                .limits = {kFloorModulo, kBroadcast, kScalars}}},
      {.name = "Pow",
       .inputs = {{"A"}, {"B"}},
       .outputs = {{"C"}},
       .forward = power,
       .layout = LayoutRule::Broadcast,
       .chip = {.board = value_board<chip_power>, .kernels = kAllWidths, .limits = {kBroadcast, kScalars}}},
  };
}

/// Comparisons and logic read codes as they are.
OperatorDefinition on_codes(std::string_view name, ForwardFunction forward, const QuantizationRule& quantization,
                            KernelWidths kernels) {
  return {.name = name,
          .inputs = {{"A"}, {"B"}},
          .outputs = {{"C"}},
          .forward = forward,
          .quantization = quantization,
          .layout = LayoutRule::Broadcast,
          .chip = {.board = board_on_codes, .kernels = kernels, .limits = {kBroadcast, kScalars}}};
}

OperatorDefinition of_many(std::string_view name, ForwardFunction forward, const QuantizationRule& quantization) {
  return {.name = name,
          .inputs = {variadic("data")},
          .outputs = {{"C"}},
          .forward = forward,
          .quantization = quantization,
          .chip = {.board = board_on_values}};
}

}  // namespace

Operators binary_operators() {
  Operators result = arithmetic();
  for (OperatorDefinition& more : Operators{
           on_codes("Equal", binary<at::eq>, kComparison, kIntegerWidths),
           on_codes("Greater", binary<at::gt>, kComparison, kIntegerWidths),
           on_codes("GreaterOrEqual", binary<at::ge>, kComparison, kIntegerWidths),
           on_codes("Less", binary<at::lt>, kComparison, kIntegerWidths),
           on_codes("LessOrEqual", binary<at::le>, kComparison, kIntegerWidths),
           on_codes("And", binary<at::logical_and>, kLogic, {}),
           on_codes("Or", binary<at::logical_or>, kLogic, {}),
           on_codes("Xor", binary<at::logical_xor>, kLogic, {}),
           on_codes("BitwiseAnd", binary<at::bitwise_and>, kLogic, {}),
           on_codes("BitwiseOr", binary<at::bitwise_or>, kLogic, {}),
           on_codes("BitwiseXor", binary<at::bitwise_xor>, kLogic, {}),
           of_many("Max", reduce_operands<at::maximum>, {.quantizable = true}),
           of_many("Min", reduce_operands<at::minimum>, {}),
           of_many("Sum", reduce_operands<add>, {.alignment = AlignmentClass::Elementwise}),
           of_many("Mean", mean_of_operands, {}),
       })
    result.push_back(std::move(more));
  return result;
}

}  // namespace espq
