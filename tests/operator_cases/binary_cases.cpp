// Functions of two and more tensors that are broadcast against each other.
#include <algorithm>

#include "tests/operator_cases/families.h"

namespace espq::test {
namespace {

using Formula = double (*)(double, double);

std::function<Arrays(const Arrays&)> elementwise(Formula formula) {
  return one([formula](const Arrays& in) {
    Array result = in[0];
    for (size_t i = 1; i < in.size(); ++i) result = broadcast(result, in[i], formula);
    return result;
  });
}

struct Operands {
  const char* what;
  Shape a, b;
  bool constant;
};

/// Every way in which two operands meet on the chip: element by element, rows, channels, a scalar.
const std::vector<Operands>& pairs() {
  static const std::vector<Operands> all = {{"equal shapes", {1, 16, 4, 5}, {1, 16, 4, 5}, false},
                                            {"a constant per channel", {1, 16, 4, 5}, {16, 1, 1}, true},
                                            {"a constant number", {1, 16, 4, 5}, {1}, true},
                                            {"both broadcast", {2, 1, 5}, {3, 1}, false}};
  return all;
}

void add_arithmetic(Cases& cases) {
  const auto add = [&](const char* type, Formula formula, const ChipResult& chip, double low = -2, double high = 2,
                       const AttributeMap& attributes = {}) {
    for (const Operands& operands : pairs()) {
      Operand right{.shape = operands.b, .low = low, .high = high, .constant = operands.constant};
      cases.push_back({.type = type,
                       .what = operands.what,
                       .operands = {data(operands.a), std::move(right)},
                       .attributes = attributes,
                       .reference = elementwise(formula),
                       .chip = chip});
    }
  };
  add(
      "Add", [](double a, double b) { return a + b; }, kExact);
  add(
      "Sub", [](double a, double b) { return a - b; }, kExact);
  add("Mul", [](double a, double b) { return a * b; },
      {.why = "16 bit without vector unit: the product is rounded to float32 before the shift"});
  add(
      "Div", [](double a, double b) { return a / b; }, {}, 0.75, 3);
  add("Mod", [](double a, double b) { return std::fmod(a, b); },
      {.why = "the quotient of two grids is often whole: the remainder jumps there", .compared = false}, 0.75, 3,
      {{"fmod", int64_t{1}}});
  cases.push_back({.type = "Mod",
                   .what = "integers, sign of the divisor",
                   .operands = {{.shape = {5, 7}, .low = -20, .high = 20, .dtype = at::kLong},
                                {.shape = {7}, .low = 1, .high = 6, .dtype = at::kLong}},
                   .reference = elementwise([](double a, double b) { return a - b * std::floor(a / b); }),
                   .differentiable = false,
                   .chip = {.why = "integers are not quantized", .compared = false}});
  cases.push_back({.type = "Pow",
                   .what = "positive base",
                   .operands = {data({1, 8, 3, 3}, 0.25, 3), number(2.5)},
                   .reference = elementwise([](double a, double b) { return std::exp(b * std::log(a)); })});
}

void add_comparisons(Cases& cases) {
  const auto add = [&](const char* type, Formula formula) {
    // Codes that are often equal: few values on both sides.
    const std::vector<double> few{-1, -0.5, 0, 0.5, 1, 1.5};
    std::vector<double> a, b;
    for (int i = 0; i < 36; ++i) a.push_back(few[i % 6]), b.push_back(few[i / 6]);
    cases.push_back({.type = type,
                     .what = "all pairs of six values",
                     .operands = {given({4, 9}, a, at::kFloat, false), given({4, 9}, b, at::kFloat, false)},
                     .reference = elementwise(formula),
                     .differentiable = false});
  };
  add("Equal", [](double a, double b) { return a == b ? 1.0 : 0.0; });
  add("Greater", [](double a, double b) { return a > b ? 1.0 : 0.0; });
  add("GreaterOrEqual", [](double a, double b) { return a >= b ? 1.0 : 0.0; });
  add("Less", [](double a, double b) { return a < b ? 1.0 : 0.0; });
  add("LessOrEqual", [](double a, double b) { return a <= b ? 1.0 : 0.0; });
}

void add_logic(Cases& cases) {
  const auto add = [&](const char* type, at::ScalarType dtype, Formula formula) {
    cases.push_back({.type = type,
                     .what = "rows against a vector",
                     .operands = {{.shape = {6, 8}, .low = -90, .high = 90, .dtype = dtype},
                                  {.shape = {8}, .low = -90, .high = 90, .dtype = dtype}},
                     .reference = elementwise(formula),
                     .differentiable = false});
  };
  add("And", at::kBool, [](double a, double b) { return a * b; });
  add("Or", at::kBool, [](double a, double b) { return std::max(a, b); });
  add("Xor", at::kBool, [](double a, double b) { return std::abs(a - b); });
  add("BitwiseAnd", at::kInt,
      [](double a, double b) { return static_cast<double>(static_cast<int64_t>(a) & static_cast<int64_t>(b)); });
  add("BitwiseOr", at::kInt,
      [](double a, double b) { return static_cast<double>(static_cast<int64_t>(a) | static_cast<int64_t>(b)); });
  add("BitwiseXor", at::kInt,
      [](double a, double b) { return static_cast<double>(static_cast<int64_t>(a) ^ static_cast<int64_t>(b)); });
}

void add_variadic(Cases& cases) {
  const auto add = [&](const char* type, std::function<Arrays(const Arrays&)> reference, ChipResult chip = {}) {
    cases.push_back({.type = type,
                     .what = "three operands",
                     .operands = {data({2, 3, 4}), data({3, 1}), data({4})},
                     .reference = std::move(reference),
                     .chip = std::move(chip)});
  };
  add("Max", elementwise([](double a, double b) { return a > b ? a : b; }),
      {.why = "a + relu(b - a): differences leave the grid that the aligned operands share", .compared = false});
  add("Min", elementwise([](double a, double b) { return a < b ? a : b; }));
  add("Sum", elementwise([](double a, double b) { return a + b; }));
  add("Mean", one([](const Arrays& in) {
        const auto sum = [](double a, double b) { return a + b; };
        return mapped(broadcast(broadcast(in[0], in[1], sum), in[2], sum), [](double x) { return x / 3; });
      }),
      {.why = "Mul with 1 / 3, which no grid of powers of two holds", .compared = false});
}

/// A choice between two tensors.
void add_where(Cases& cases) {
  cases.push_back({.type = "Where",
                   .what = "condition per row",
                   .operands = {{.shape = {3, 1}, .dtype = at::kBool}, data({3, 4}), data({4})},
                   .reference = one([](const Arrays& in) {
                     return filled(in[1].shape, [&](const Index& i) {
                       return broadcast_element(in[0], i) != 0 ? in[1](i) : broadcast_element(in[2], i);
                     });
                   })});
}

}  // namespace

void add_binary_cases(Cases& cases) {
  add_arithmetic(cases);
  add_comparisons(cases);
  add_logic(cases);
  add_variadic(cases);
  add_where(cases);
}

}  // namespace espq::test
