#pragma once
#include <string>
#include <utility>

#include "core/ops/operator.h"

// Words in which the entries of the operator table are written.
namespace espq {

inline AttributeSpec integer(std::string_view name, int64_t value) {
  return {.name = name, .type = AttributeSpec::Type::Int, .fallback = Attribute(value)};
}
inline AttributeSpec real(std::string_view name, float value) {
  return {.name = name, .type = AttributeSpec::Type::Float, .fallback = Attribute(value)};
}
inline AttributeSpec text(std::string_view name, std::string value) {
  return {.name = name, .type = AttributeSpec::Type::String, .fallback = Attribute(std::move(value))};
}
inline OperandSpec index_operand(std::string_view name, bool optional = false) {
  return {.name = name, .role = OperandRole::Index, .optional = optional};
}

inline constexpr ChipSupport kAllWidths{.registered = true, .int8 = true, .int16 = true, .float32 = true, .note = {}};
inline constexpr ChipSupport kIntegerWidths{.registered = true, .int8 = true, .int16 = true, .note = {}};
inline constexpr ChipSupport kUnregistered{.note = "not registered in chip library 3.3.9"};

}  // namespace espq
