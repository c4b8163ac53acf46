#pragma once
#include <string>
#include <string_view>
#include <utility>

#include "core/ops/operator.h"

// Words in which the definitions of operators are written.
namespace espq {

inline AttributeSpec integer(std::string_view name) { return {.name = name, .type = AttributeSpec::Type::Int}; }
inline AttributeSpec integer(std::string_view name, int64_t value) {
  return {.name = name, .type = AttributeSpec::Type::Int, .fallback = Attribute(value)};
}
inline AttributeSpec integers(std::string_view name) { return {.name = name, .type = AttributeSpec::Type::Ints}; }
inline AttributeSpec real(std::string_view name) { return {.name = name, .type = AttributeSpec::Type::Float}; }
inline AttributeSpec real(std::string_view name, float value) {
  return {.name = name, .type = AttributeSpec::Type::Float, .fallback = Attribute(value)};
}
inline AttributeSpec reals(std::string_view name) { return {.name = name, .type = AttributeSpec::Type::Floats}; }
inline AttributeSpec text(std::string_view name) { return {.name = name, .type = AttributeSpec::Type::String}; }
inline AttributeSpec text(std::string_view name, std::string value) {
  return {.name = name, .type = AttributeSpec::Type::String, .fallback = Attribute(std::move(value))};
}
inline AttributeSpec texts(std::string_view name) { return {.name = name, .type = AttributeSpec::Type::Strings}; }
inline AttributeSpec required(AttributeSpec attribute) {
  attribute.required = true;
  return attribute;
}
inline AttributeSpec stated(AttributeSpec attribute) {
  attribute.stated = true;
  return attribute;
}

inline OperandSpec operand(std::string_view name, OperandRole role) { return {.name = name, .role = role}; }
inline OperandSpec index_operand(std::string_view name) { return operand(name, OperandRole::Index); }
inline OperandSpec optional(OperandSpec spec) {
  spec.optional = true;
  return spec;
}
inline OperandSpec optional(std::string_view name) { return optional(OperandSpec{.name = name}); }
inline OperandSpec variadic(std::string_view name) { return {.name = name, .variadic = true}; }

}  // namespace espq
