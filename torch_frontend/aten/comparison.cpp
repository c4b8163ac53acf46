#include "torch_frontend/aten/families.h"

namespace espq::torch_frontend {
namespace {

/// Both operands in the type in which LibTorch compares them.
Call::Variables compared(const Call& call) {
  at::ScalarType dtype = call.sample("self").scalar_type();
  if (call.is_tensor("other")) {
    dtype = at::result_type(call.sample("self"), call.sample("other"));
  } else if (!at::isFloatingType(dtype)) {
    const double value = call.number("other");
    if (value != static_cast<double>(static_cast<int64_t>(value))) dtype = at::kFloat;
    if (dtype == at::kBool) dtype = at::kLong;
  }
  dtype = graph_dtype(dtype);
  return {call.tensor_as("self", dtype), call.tensor_as("other", dtype)};
}

template <const char* type>
void compare(Call& call) {
  call.result(type, compared(call));
}
void ne(Call& call) { call.result("Not", {call.emit("Equal", compared(call))}); }

template <const char* type>
void logical(Call& call) {
  call.result(type, {call.tensor_as("self", at::kBool), call.tensor_as("other", at::kBool)});
}
void logical_not(Call& call) { call.result("Not", {call.tensor_as("self", at::kBool)}); }

template <const char* logical_type, const char* bitwise_type>
void bitwise(Call& call) {
  const at::ScalarType dtype = call.output_dtype();
  call.result(dtype == at::kBool ? logical_type : bitwise_type,
              {call.tensor_as("self", dtype), call.tensor_as("other", dtype)});
}
void bitwise_not(Call& call) {
  call.result(call.output_dtype() == at::kBool ? "Not" : "BitwiseNot", {call.tensor("self")});
}

void where(Call& call) {
  const at::ScalarType dtype = call.output_dtype();
  call.check(call.has("self"), "needs both values: where(condition) alone lists positions, which depend on values");
  call.result("Where",
              {call.tensor_as("condition", at::kBool), call.tensor_as("self", dtype), call.tensor_as("other", dtype)});
}

void masked_fill(Call& call) {
  const at::ScalarType dtype = call.output_dtype();
  call.result("Where",
              {call.tensor_as("mask", at::kBool), call.tensor_as("value", dtype), call.tensor_as("self", dtype)});
}

void isnan(Call& call) { call.result("IsNaN", {call.tensor_as("self", at::kFloat)}); }
void isinf(Call& call) { call.result("IsInf", {call.tensor_as("self", at::kFloat)}); }
void isfinite(Call& call) {
  Variable* value = call.tensor_as("self", at::kFloat);
  call.result("Not", {call.emit("Or", {call.emit("IsNaN", {value}), call.emit("IsInf", {value})})});
}

constexpr char kEqual[] = "Equal", kGreater[] = "Greater", kGreaterOrEqual[] = "GreaterOrEqual", kLess[] = "Less",
               kLessOrEqual[] = "LessOrEqual", kAnd[] = "And", kOr[] = "Or", kXor[] = "Xor",
               kBitwiseAnd[] = "BitwiseAnd", kBitwiseOr[] = "BitwiseOr", kBitwiseXor[] = "BitwiseXor";

}  // namespace

void add_comparisons(Table& table) {
  const auto put = [&](std::initializer_list<const char*> names, Mapping map) {
    for (const char* name : names) table[name] = {map, Family::Movement};
  };
  put({"eq"}, compare<kEqual>);
  put({"ne", "not_equal"}, ne);
  put({"gt", "greater"}, compare<kGreater>);
  put({"ge", "greater_equal"}, compare<kGreaterOrEqual>);
  put({"lt", "less"}, compare<kLess>);
  put({"le", "less_equal"}, compare<kLessOrEqual>);
  put({"logical_and"}, logical<kAnd>);
  put({"logical_or"}, logical<kOr>);
  put({"logical_xor"}, logical<kXor>);
  put({"logical_not"}, logical_not);
  put({"bitwise_and", "__and__", "__iand__"}, bitwise<kAnd, kBitwiseAnd>);
  put({"bitwise_or", "__or__", "__ior__"}, bitwise<kOr, kBitwiseOr>);
  put({"bitwise_xor", "__xor__", "__ixor__"}, bitwise<kXor, kBitwiseXor>);
  put({"bitwise_not"}, bitwise_not);
  put({"where"}, where);
  put({"masked_fill"}, masked_fill);
  put({"isnan"}, isnan);
  put({"isinf"}, isinf);
  put({"isfinite"}, isfinite);
}

}  // namespace espq::torch_frontend
