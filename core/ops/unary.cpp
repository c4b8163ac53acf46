// Element-wise functions of one operand that the quantizer leaves in float unless it is told otherwise.
#include "core/ops/arguments.h"
#include "core/ops/entry.h"
#include "core/ops/families.h"

namespace espq {
namespace {

using Type = AttributeSpec::Type;

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

OperatorDefinition definition(std::string_view name, ForwardFunction forward,
                              std::vector<AttributeSpec> attributes = {}) {
  OperatorDefinition result;
  result.name = name;
  result.inputs = {{"X"}};
  result.outputs = {{"Y"}};
  result.attributes = std::move(attributes);
  result.forward = forward;
  result.board = board_on_values;
  result.layout = LayoutRule::Follows;
  result.chip = kUnregistered;
  return result;
}

/// Functions that a lookup table can hold.
void add_with_tables(Registry& registry) {
  const auto add = [&](std::string_view name, ForwardFunction forward, bool int16,
                       std::vector<AttributeSpec> attributes = {}) {
    OperatorDefinition entry = definition(name, forward, std::move(attributes));
    entry.quantization.table_int8 = true;
    entry.quantization.table_int16 = int16;
    registry.add(std::move(entry));
  };
  add("Erf", unary<at::erf>, true);
  add("Softplus", unary<softplus>, true);
  add("Sin", unary<at::sin>, true);
  add("Cos", unary<at::cos>, true);
  add("Tan", unary<at::tan>, true);
  add("Abs", unary<at::abs>, false);
  add("Floor", unary<at::floor>, false);
  add("Ceil", unary<at::ceil>, false);
  add("Round", unary<round_half_even>, false);
  add("Not", unary<at::logical_not>, false);
  add("Reciprocal", unary<at::reciprocal>, false);
  add("Sign", unary<at::sign>, false);
  add("Mish", unary<mish>, false);
  add("Softsign", unary<softsign>, false);
  add("Selu", selu, false, {real("alpha", 1.67326319217681884765625f), real("gamma", 1.05070102214813232421875f)});
  add("Celu", celu, false, {real("alpha", 1.0f)});
  add("ThresholdedRelu", thresholded_relu, false, {real("alpha", 1.0f)});
  add("Shrink", shrink, false, {real("lambd", 0.5f), real("bias", 0.0f)});
  add("Asin", unary<at::asin>, false);
  add("Acos", unary<at::acos>, false);
  add("Atan", unary<at::atan>, false);
  add("Sinh", unary<at::sinh>, false);
  add("Cosh", unary<at::cosh>, false);
  add("Asinh", unary<at::asinh>, false);
  add("Acosh", unary<at::acosh>, false);
  add("Atanh", unary<at::atanh>, false);
}

void add_plain(Registry& registry) {
  const auto add = [&](std::string_view name, ForwardFunction forward, std::vector<AttributeSpec> attributes = {}) {
    registry.add(definition(name, forward, std::move(attributes)));
  };
  add("BitwiseNot", unary<complement>);
  add("IsNaN", unary<at::isnan>);
  add("IsInf", is_infinite,
      {{.name = "detect_negative", .type = Type::Int, .fallback = Attribute(int64_t{1})},
       {.name = "detect_positive", .type = Type::Int, .fallback = Attribute(int64_t{1})}});
}

}  // namespace

void register_unary_operators(Registry& registry) {
  add_with_tables(registry);
  add_plain(registry);
}

}  // namespace espq
