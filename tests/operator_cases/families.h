#pragma once
#include <cmath>

#include "tests/operator_cases/operator_case.h"

// Words in which the cases are written, and the files that hold them.
namespace espq::test {

using Cases = std::vector<OperatorCase>;
using Ints = std::vector<int64_t>;

void add_unary_cases(Cases& cases);
void add_binary_cases(Cases& cases);
void add_product_cases(Cases& cases);
void add_window_cases(Cases& cases);
void add_reduction_cases(Cases& cases);
void add_normalization_cases(Cases& cases);
void add_movement_cases(Cases& cases);
void add_indexing_cases(Cases& cases);
void add_shape_cases(Cases& cases);
void add_recurrent_cases(Cases& cases);

/// An activation.
inline Operand data(Shape shape, double low = -2, double high = 2) {
  return {.shape = std::move(shape), .low = low, .high = high};
}
/// A parameter.
inline Operand weight(Shape shape, double low = -1, double high = 1) {
  return {.shape = std::move(shape), .low = low, .high = high, .constant = true};
}
/// A constant list of integers: axes, sizes, positions.
inline Operand integers(const Ints& values) {
  return {.shape = {static_cast<int64_t>(values.size())},
          .dtype = at::kLong,
          .constant = true,
          .values = {values.begin(), values.end()}};
}
inline Operand given(Shape shape, std::vector<double> values, at::ScalarType dtype = at::kFloat, bool constant = true) {
  return {.shape = std::move(shape), .dtype = dtype, .constant = constant, .values = std::move(values)};
}
inline Operand number(double value, at::ScalarType dtype = at::kFloat) { return given({}, {value}, dtype); }
inline Operand omitted() { return {.omitted = true}; }

inline const ChipResult kExact{.exact = true};

/// A reference with one result.
inline std::function<Arrays(const Arrays&)> one(std::function<Array(const Arrays&)> function) {
  return [function = std::move(function)](const Arrays& in) { return Arrays{function(in)}; };
}

}  // namespace espq::test
