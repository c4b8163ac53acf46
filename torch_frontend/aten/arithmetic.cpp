#include <cmath>
#include <numbers>

#include "torch_frontend/aten/families.h"

namespace espq::torch_frontend {
namespace {

Variable* operand(const Call& call, std::string_view name = "self") {
  return call.tensor_as(name, call.output_dtype());
}

template <const char* type>
void unary(Call& call) {
  call.result(type, {operand(call)});
}

template <const char* type>
void binary(Call& call) {
  call.result(type, {operand(call), operand(call, "other")});
}

/// The second operand times alpha.
Variable* scaled_other(const Call& call, std::string_view name = "other") {
  const double alpha = call.number("alpha", 1);
  if (alpha == 1) return operand(call, name);
  if (!call.is_tensor(name)) return call.scalar(call.number(name) * alpha, call.output_dtype());
  return call.emit("Mul", {operand(call, name), call.scalar(alpha, call.output_dtype())});
}

void add(Call& call) {
  if (call.output_dtype() == at::kBool) return call.result("Or", {operand(call), operand(call, "other")});
  call.result("Add", {operand(call), scaled_other(call)});
}
void sub(Call& call) { call.result("Sub", {operand(call), scaled_other(call)}); }
void rsub(Call& call) {
  const double alpha = call.number("alpha", 1);
  Variable* self = operand(call);
  if (alpha != 1) self = call.emit("Mul", {self, call.scalar(alpha, call.output_dtype())});
  call.result("Sub", {operand(call, "other"), self});
}
void mul(Call& call) {
  call.result(call.output_dtype() == at::kBool ? "And" : "Mul", {operand(call), operand(call, "other")});
}

Variable* truncate(const Call& call, Variable* value) {
  return call.emit("Mul", {call.emit("Sign", {value}), call.emit("Floor", {call.emit("Abs", {value})})});
}

/// Quotients are computed in float32, also those of integers.
Variable* quotient(const Call& call, const std::string& rounding) {
  Variable* value = call.emit("Div", {call.tensor_as("self", at::kFloat), call.tensor_as("other", at::kFloat)});
  if (rounding == "floor") value = call.emit("Floor", {value});
  if (rounding == "trunc") value = truncate(call, value);
  return call.output_dtype() == at::kFloat ? value : call.cast(value, call.output_dtype());
}
void div(Call& call) { call.result(quotient(call, call.text("rounding_mode"))); }
void floor_divide(Call& call) { call.result(quotient(call, "floor")); }

/// Has the sign of the divisor.
void remainder(Call& call) {
  if (call.output_dtype() != at::kFloat) return call.result("Mod", {operand(call), operand(call, "other")});
  Variable *self = operand(call), *other = operand(call, "other");
  Variable* whole = call.emit("Floor", {call.emit("Div", {self, other})});
  call.result("Sub", {self, call.emit("Mul", {whole, other})});
}
void fmod(Call& call) { call.result("Mod", {operand(call), operand(call, "other")}, {{"fmod", int64_t{1}}}); }

void pow(Call& call) { call.result("Pow", {operand(call), operand(call, "exponent")}); }
void square(Call& call) {
  Variable* value = operand(call);
  call.result("Mul", {value, value});
}
void rsqrt(Call& call) { call.result("Reciprocal", {call.emit("Sqrt", {operand(call)})}); }

/// log(x + 1), exp(x) - 1
void log1p(Call& call) { call.result("Log", {call.emit("Add", {operand(call), call.scalar(1)})}); }
void expm1(Call& call) { call.result("Sub", {call.emit("Exp", {operand(call)}), call.scalar(1)}); }
void exp2(Call& call) { call.result("Pow", {call.scalar(2), operand(call)}); }
void logarithm(Call& call, double base) {
  call.result("Mul", {call.emit("Log", {operand(call)}), call.scalar(1 / std::log(base))});
}
void log2(Call& call) { logarithm(call, 2); }
void log10(Call& call) { logarithm(call, 10); }
void erfc(Call& call) { call.result("Sub", {call.scalar(1), call.emit("Erf", {operand(call)})}); }
void trunc(Call& call) { call.result(truncate(call, operand(call))); }
void frac(Call& call) {
  Variable* value = operand(call);
  call.result("Sub", {value, truncate(call, value)});
}
void round(Call& call) {
  const auto decimals = call.integer("decimals", 0);
  if (decimals == 0) return call.result("Round", {operand(call)});
  const double factor = std::pow(10.0, static_cast<double>(decimals));
  Variable* value = call.emit("Round", {call.emit("Mul", {operand(call), call.scalar(factor)})});
  call.result("Div", {value, call.scalar(factor)});
}

/// self + value * tensor1 (x or /) tensor2
void addc(Call& call, const char* type) {
  Variable* product = call.emit(type, {operand(call, "tensor1"), operand(call, "tensor2")});
  const double value = call.number("value");
  if (value != 1) product = call.emit("Mul", {product, call.scalar(value)});
  call.result("Add", {operand(call), product});
}
void addcmul(Call& call) { addc(call, "Mul"); }
void addcdiv(Call& call) { addc(call, "Div"); }

void lerp(Call& call) {
  Variable* start = operand(call);
  Variable* step = call.emit("Mul", {operand(call, "weight"), call.emit("Sub", {operand(call, "end"), start})});
  call.result("Add", {start, step});
}

void hypot(Call& call) {
  Variable *a = operand(call), *b = operand(call, "other");
  call.result("Sqrt", {call.emit("Add", {call.emit("Mul", {a, a}), call.emit("Mul", {b, b})})});
}

void constant_factor(Call& call, double factor) { call.result("Mul", {operand(call), call.scalar(factor)}); }
void deg2rad(Call& call) { constant_factor(call, std::numbers::pi / 180); }
void rad2deg(Call& call) { constant_factor(call, 180 / std::numbers::pi); }

constexpr char kAbs[] = "Abs", kNeg[] = "Neg", kExp[] = "Exp", kLog[] = "Log", kSqrt[] = "Sqrt", kFloor[] = "Floor",
               kCeil[] = "Ceil", kSign[] = "Sign", kErf[] = "Erf", kReciprocal[] = "Reciprocal", kSin[] = "Sin",
               kCos[] = "Cos", kTan[] = "Tan", kAsin[] = "Asin", kAcos[] = "Acos", kAtan[] = "Atan", kSinh[] = "Sinh",
               kCosh[] = "Cosh", kAsinh[] = "Asinh", kAcosh[] = "Acosh", kAtanh[] = "Atanh", kMax[] = "Max",
               kMin[] = "Min";

}  // namespace

void add_arithmetic(Table& table) {
  const auto put = [&](std::initializer_list<const char*> names, Mapping map, Family family) {
    for (const char* name : names) table[name] = {map, family};
  };
  put({"add"}, add, Family::Arithmetic);
  put({"sub", "subtract"}, sub, Family::Arithmetic);
  put({"rsub"}, rsub, Family::Arithmetic);
  put({"mul", "multiply"}, mul, Family::Arithmetic);
  put({"div", "divide", "true_divide"}, div, Family::Arithmetic);
  put({"floor_divide"}, floor_divide, Family::Arithmetic);
  put({"remainder"}, remainder, Family::Arithmetic);
  put({"fmod"}, fmod, Family::Arithmetic);
  put({"pow"}, pow, Family::Transcendental);
  put({"square"}, square, Family::Arithmetic);
  put({"rsqrt"}, rsqrt, Family::Arithmetic);
  put({"log1p"}, log1p, Family::Transcendental);
  put({"expm1", "special_expm1"}, expm1, Family::Transcendental);
  put({"exp2"}, exp2, Family::Transcendental);
  put({"log2"}, log2, Family::Transcendental);
  put({"log10"}, log10, Family::Transcendental);
  put({"erfc"}, erfc, Family::Transcendental);
  put({"trunc", "fix"}, trunc, Family::Movement);
  put({"frac"}, frac, Family::Arithmetic);
  put({"round"}, round, Family::Arithmetic);
  put({"addcmul"}, addcmul, Family::Arithmetic);
  put({"addcdiv"}, addcdiv, Family::Arithmetic);
  put({"lerp"}, lerp, Family::Arithmetic);
  put({"hypot"}, hypot, Family::Arithmetic);
  put({"deg2rad"}, deg2rad, Family::Arithmetic);
  put({"rad2deg"}, rad2deg, Family::Arithmetic);
  put({"abs", "absolute"}, unary<kAbs>, Family::Movement);
  put({"neg", "negative"}, unary<kNeg>, Family::Movement);
  put({"floor"}, unary<kFloor>, Family::Movement);
  put({"ceil"}, unary<kCeil>, Family::Movement);
  put({"sign", "sgn"}, unary<kSign>, Family::Movement);
  put({"sqrt"}, unary<kSqrt>, Family::Arithmetic);
  put({"reciprocal"}, unary<kReciprocal>, Family::Arithmetic);
  put({"exp"}, unary<kExp>, Family::Transcendental);
  put({"log"}, unary<kLog>, Family::Transcendental);
  put({"erf", "special_erf"}, unary<kErf>, Family::Transcendental);
  put({"sin"}, unary<kSin>, Family::Transcendental);
  put({"cos"}, unary<kCos>, Family::Transcendental);
  put({"tan"}, unary<kTan>, Family::Transcendental);
  put({"asin", "arcsin"}, unary<kAsin>, Family::Transcendental);
  put({"acos", "arccos"}, unary<kAcos>, Family::Transcendental);
  put({"atan", "arctan"}, unary<kAtan>, Family::Transcendental);
  put({"sinh"}, unary<kSinh>, Family::Transcendental);
  put({"cosh"}, unary<kCosh>, Family::Transcendental);
  put({"asinh", "arcsinh"}, unary<kAsinh>, Family::Transcendental);
  put({"acosh", "arccosh"}, unary<kAcosh>, Family::Transcendental);
  put({"atanh", "arctanh"}, unary<kAtanh>, Family::Transcendental);
  put({"maximum", "fmax"}, binary<kMax>, Family::Movement);
  put({"minimum", "fmin"}, binary<kMin>, Family::Movement);
}

}  // namespace espq::torch_frontend
