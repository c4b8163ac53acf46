// Element-wise functions of one operand that the quantizer leaves in float unless it is told otherwise.
#include "core/ops/arguments.h"
#include "core/ops/families.h"
#include "core/ops/row.h"

namespace espq {
namespace {

template <at::Tensor (*Function)(const at::Tensor&)>
Tensors unary(const ForwardContext&, const Tensors& in) {
  return one(Function(in[0]));
}

at::Tensor softplus(const at::Tensor& x) { return at::softplus(x); }
at::Tensor softsign(const at::Tensor& x) { return x / (1 + at::abs(x)); }
at::Tensor mish(const at::Tensor& x) { return x * at::tanh(at::softplus(x)); }
/// LibTorch has no complement of uint16 and wider.
at::Tensor complement(const at::Tensor& x) {
  if (x.scalar_type() != at::kUInt16 && x.scalar_type() != at::kUInt32 && x.scalar_type() != at::kUInt64) {
    return at::bitwise_not(x);
  }
  return at::bitwise_not(x.to(at::kLong)).to(x.scalar_type());
}
at::Tensor round_half_even(const at::Tensor& x) { return at::round(x); }

float parameter(const ForwardContext& context, std::string_view name) {
  return context.operation.float_attribute(name);
}

Tensors selu(const ForwardContext& context, const Tensors& in) {
  const float alpha = parameter(context, "alpha"), gamma = parameter(context, "gamma");
  return one(gamma * at::where(in[0] > 0, in[0], alpha * at::expm1(in[0])));
}

Tensors celu(const ForwardContext& context, const Tensors& in) {
  return one(at::celu(in[0], parameter(context, "alpha")));
}

Tensors thresholded_relu(const ForwardContext& context, const Tensors& in) {
  return one(at::where(in[0] > parameter(context, "alpha"), in[0], at::zeros_like(in[0])));
}

Tensors shrink(const ForwardContext& context, const Tensors& in) {
  const float lambd = parameter(context, "lambd"), bias = parameter(context, "bias");
  const at::Tensor shrunk = at::where(in[0] < -lambd, in[0] + bias, at::where(in[0] > lambd, in[0] - bias, 0 * in[0]));
  return one(shrunk.to(in[0].scalar_type()));
}

Tensors is_infinite(const ForwardContext& context, const Tensors& in) {
  const bool negative = context.operation.int_attribute("detect_negative") != 0;
  const bool positive = context.operation.int_attribute("detect_positive") != 0;
  at::Tensor result = at::isinf(in[0]);
  if (!negative) result = at::logical_and(result, in[0] > 0);
  if (!positive) result = at::logical_and(result, in[0] < 0);
  return one(result);
}

/// A function that a lookup table can hold, at 8 bit or (`int16`) at both widths.
OperatorDefinition function(std::string_view name, ForwardFunction forward, bool int16 = false,
                            std::vector<AttributeSpec> attributes = {}) {
  return {.name = name,
          .inputs = {{"X"}},
          .outputs = {{"Y"}},
          .attributes = std::move(attributes),
          .forward = forward,
          .quantization = {.table_int8 = true, .table_int16 = int16},
          .layout = LayoutRule::Elementwise,
          .chip = {.board = board_on_values}};
}

/// One that no table can hold: it looks at the bits of its operand, or gives no numbers.
OperatorDefinition test(std::string_view name, ForwardFunction forward, std::vector<AttributeSpec> attributes = {}) {
  return {.name = name,
          .inputs = {{"X"}},
          .outputs = {{"Y"}},
          .attributes = std::move(attributes),
          .forward = forward,
          .layout = LayoutRule::Elementwise,
          .chip = {.board = board_on_values}};
}

}  // namespace

Operators unary_operators() {
  return {
      function("Erf", unary<at::erf>, true),
      function("Softplus", unary<softplus>, true),
      function("Sin", unary<at::sin>, true),
      function("Cos", unary<at::cos>, true),
      function("Tan", unary<at::tan>, true),
      function("Abs", unary<at::abs>),
      function("Floor", unary<at::floor>),
      function("Ceil", unary<at::ceil>),
      function("Round", unary<round_half_even>),
      function("Not", unary<at::logical_not>),
      function("Reciprocal", unary<at::reciprocal>),
      function("Sign", unary<at::sign>),
      function("Mish", unary<mish>),
      function("Softsign", unary<softsign>),
      function("Selu", selu, false,
               {real("alpha", 1.67326319217681884765625f), real("gamma", 1.05070102214813232421875f)}),
      function("Celu", celu, false, {real("alpha", 1.0f)}),
      function("ThresholdedRelu", thresholded_relu, false, {real("alpha", 1.0f)}),
      function("Shrink", shrink, false, {real("lambd", 0.5f), real("bias", 0.0f)}),
      function("Asin", unary<at::asin>),
      function("Acos", unary<at::acos>),
      function("Atan", unary<at::atan>),
      function("Sinh", unary<at::sinh>),
      function("Cosh", unary<at::cosh>),
      function("Asinh", unary<at::asinh>),
      function("Acosh", unary<at::acosh>),
      function("Atanh", unary<at::atanh>),
      test("BitwiseNot", unary<complement>),
      test("IsNaN", unary<at::isnan>),
      test("IsInf", is_infinite, {integer("detect_negative", 1), integer("detect_positive", 1)}),
  };
}

}  // namespace espq
