#pragma once
#include <functional>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "core/ops/operator.h"
#include "tests/operator_cases/array.h"

namespace espq::test {

/// One operand of a case: random values of a range, or given ones.
struct Operand {
  Shape shape = {};
  double low = -2, high = 2;
  at::ScalarType dtype = at::kFloat;
  bool constant = false;            ///< a parameter of the network: weights, axes ...
  std::vector<double> values = {};  ///< given ones instead of random ones
  bool omitted = false;
};

/// How the chip's codes relate to the reference rounded to the output's grid.
struct ChipResult {
  /// Integer arithmetic with one rounding: exactly the reference's double, rounded by the chip's rule for ties.
  bool exact = false;
  /// Otherwise: how far beyond half a code the result may be from the reference. Float32 formulas are right to 2^-24,
  /// which is 0.002 of a 16-bit code for each step of a formula.
  double codes = 0.02;
  double codes_at_16_bit = codes;
  std::string why = {};  ///< the reason of a wider bound, or of not comparing
  bool compared = true;
  /// What the message says where a chip does not take this form of the operator; where it does, codes are compared.
  std::string refusal = {};
};

/// One use of one operator: a value that tests, gradients, Board and benchmarks share.
struct OperatorCase {
  std::string type = {};
  std::string what = {};  ///< what it shows that the operator's other cases do not
  std::vector<Operand> operands = {};
  AttributeMap attributes = {};
  /// The expected results in double, by a formula of its own.
  std::function<Arrays(const Arrays& operands)> reference = {};
  size_t results = 1;
  /// Of `forward` in float32, relative to the largest magnitude of the reference (at least 1).
  double tolerance = 4e-6;
  bool differentiable = true;
  ChipResult chip = {};
};
std::ostream& operator<<(std::ostream& stream, const OperatorCase& value);

/// All cases, operator by operator. Every row of the table has at least one (tests/operator_cases/float_test.cpp).
const std::vector<OperatorCase>& operator_cases();

/// The case's operands: the same tensors for the same seed. Omitted ones are undefined.
Tensors make_operands(const OperatorCase& value, uint64_t seed);
Array to_array(const at::Tensor& tensor);

}  // namespace espq::test
