// Functions of one tensor, element by element. Formulas of the ONNX standard in double.
#include <algorithm>
#include <limits>

#include "tests/operator_cases/families.h"

namespace espq::test {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

struct Function {
  const char* type;
  double (*formula)(double);
  double low = -4, high = 4;
  AttributeMap attributes = {};
  double codes = ChipResult().codes;
  const char* why = "";
  const char* refusal = "";
};

const std::vector<Function>& functions() {
  static const std::vector<Function> all = {
      {"Relu", [](double x) { return x > 0 ? x : 0.0; }},
      {"LeakyRelu", [](double x) { return x < 0 ? 0.01 * x : x; }},
      {"LeakyRelu", [](double x) { return x < 0 ? 0.25 * x : x; }, -4, 4, {{"alpha", 0.25f}}},
      {"Sigmoid", sigmoid},
      {"Tanh", [](double x) { return 1 - 2 / (std::exp(2 * x) + 1); }},
      {"HardSigmoid", [](double x) { return std::min(1.0, std::max(0.0, x / 5 + 0.5)); }},
      {"HardSigmoid",
       [](double x) { return std::min(1.0, std::max(0.0, x / 8 + 0.25)); },
       -4,
       4,
       {{"alpha", 0.125f}, {"beta", 0.25f}}},
      {"HardSwish", [](double x) { return x * std::min(6.0, std::max(0.0, x + 3)) / 6; }},
      {"Swish", [](double x) { return x / (1 + std::exp(-x)); }},
      {"Swish",
       [](double x) { return x / (1 + std::exp(-2 * x)); },
       -4,
       4,
       {{"alpha", 2.0f}},
       ChipResult().codes,
       "",
       "another alpha than 1 without a lookup table"},
      {"Elu", [](double x) { return x < 0 ? std::exp(x) - 1 : x; }},
      {"Elu", [](double x) { return x < 0 ? 2 * std::exp(x) - 2 : x; }, -4, 4, {{"alpha", 2.0f}}},
      {"Gelu", [](double x) { return x * std::erfc(-x / std::sqrt(2.0)) / 2; }},
      {"Gelu",
       [](double x) { return x * sigmoid(std::sqrt(8 / M_PI) * (x + 0.044715 * x * x * x)); },
       -4,
       4,
       {{"approximate", std::string("tanh")}}},
      {"Exp", [](double x) { return std::pow(M_E, x); }, -3, 3},
      {"Log", [](double x) { return std::log2(x) * M_LN2; }, 0.125, 8},
      {"Sqrt", [](double x) { return std::pow(x, 0.5); }, 0.125, 8},
      {"Neg", [](double x) { return 0 - x; }, -3.5, 3.5},
      {"Erf", [](double x) { return 1 - std::erfc(x); }, -2, 2},
      {"Softplus", [](double x) { return std::log1p(std::exp(x)); }},
      {"Sin", [](double x) { return std::cos(x - M_PI / 2); }},
      {"Cos", [](double x) { return std::sin(x + M_PI / 2); }},
      {"Tan", [](double x) { return std::sin(x) / std::cos(x); }, -1, 1},
      {"Abs", [](double x) { return x < 0 ? -x : x; }},
      {"Floor", [](double x) { return x - (std::fmod(x, 1) + (std::fmod(x, 1) < 0)); }},
      {"Ceil", [](double x) { return -std::floor(-x); }},
      {"Round", [](double x) { return x - std::remainder(x, 1); }},
      {"Reciprocal", [](double x) { return std::pow(x, -1); }, 0.25, 4},
      {"Sign", [](double x) { return static_cast<double>((x > 0) - (x < 0)); }},
      {"Mish", [](double x) { return x * std::tanh(std::log1p(std::exp(x))); }},
      {"Softsign", [](double x) { return x / (1 + std::abs(x)); }},
      {"Selu", [](double x) { return 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * (std::exp(x) - 1)); }},
      {"Celu", [](double x) { return x < 0 ? 2 * (std::exp(x / 2) - 1) : x; }, -4, 4, {{"alpha", 2.0f}}},
      {"ThresholdedRelu", [](double x) { return x > 1 ? x : 0.0; }},
      {"Shrink", [](double x) { return x < -0.5  ? x + 0.25
                                       : x > 0.5 ? x - 0.25
                                                 : 0.0; }, -2, 2, {{"bias", 0.25f}}},
      {"Asin", [](double x) { return M_PI / 2 - std::acos(x); }, -0.9, 0.9},
      {"Acos", [](double x) { return M_PI / 2 - std::asin(x); }, -0.9, 0.9},
      {"Atan", [](double x) { return std::asin(x / std::sqrt(1 + x * x)); }},
      {"Sinh", [](double x) { return (std::exp(x) - std::exp(-x)) / 2; }, -2, 2},
      {"Cosh", [](double x) { return (std::exp(x) + std::exp(-x)) / 2; }, -2, 2},
      {"Asinh", [](double x) { return std::log(x + std::sqrt(x * x + 1)); }},
      {"Acosh", [](double x) { return std::log(x + std::sqrt(x * x - 1)); }, 1.25, 4},
      {"Atanh", [](double x) { return std::log((1 + x) / (1 - x)) / 2; }, -0.75, 0.75},
      {"Identity", [](double x) { return x; }},
      {"ScalarFunction",
       [](double x) { return x > 0.5 ? x : -x / 4; },
       -4,
       4,
       {{"steps", std::vector<std::string>{"Greater x 0.5", "Mul x -0.25", "Where #0 x #1"}}}},
  };
  return all;
}

/// Kinks and steps lie between the sampled points with probability one, so that all of them have a gradient.
OperatorCase case_of(const Function& function) {
  return {.type = function.type,
          .what = function.attributes.empty() ? "default attributes" : "attributes",
          .operands = {data({3, 37}, function.low, function.high)},
          .attributes = function.attributes,
          .reference = one([&function](const Arrays& in) { return mapped(in[0], function.formula); }),
          .chip = {.codes = function.codes, .why = function.why, .refusal = function.refusal}};
}

}  // namespace

void add_unary_cases(Cases& cases) {
  for (const Function& function : functions()) cases.push_back(case_of(function));
  OperatorCase table{.type = "LUT",
                     .what = "the function that it replaced",
                     .operands = {data({3, 37}, -4, 4)},
                     .attributes = {{"original_op_type", std::string("Elu")}, {"alpha", 2.0f}},
                     .reference = one([](const Arrays& in) {
                       return mapped(in[0], [](double x) { return x < 0 ? 2 * std::exp(x) - 2 : x; });
                     }),
                     .chip = {.why = "made by the quantizer from the functions above", .compared = false}};
  cases.push_back(std::move(table));
  for (const auto& [low, high] : std::vector<std::pair<bool, bool>>{{true, true}, {true, false}, {false, true}}) {
    std::vector<Operand> operands{data({2, 3, 4, 5})};
    operands.push_back(low ? number(-0.75) : omitted());
    if (high) operands.push_back(number(1.25));
    cases.push_back(
        {.type = "Clip",
         .what = low && high ? "two bounds"
                 : low       ? "lower bound"
                             : "upper bound",
         .operands = std::move(operands),
         .reference = one([low = low, high = high](const Arrays& in) {
           return mapped(in[0], [&](double x) { return low && x < -0.75 ? -0.75 : high && x > 1.25 ? 1.25 : x; });
         })});
  }
  for (const Shape& slopes : {Shape{3, 1, 1}, Shape{1}})
    cases.push_back({.type = "PRelu",
                     .what = slopes.size() == 1 ? "one slope" : "a slope per channel",
                     .operands = {data({1, 3, 4, 5}), weight(slopes, -0.5, 0.5)},
                     .reference = one([](const Arrays& in) {
                       return broadcast(in[0], in[1], [](double x, double slope) { return x < 0 ? x * slope : x; });
                     }),
                     .chip = {.codes = 1.02, .why = "the plain kernel floors negative products"}});
  const auto logical = [&](const char* type, Operand operand, double (*formula)(double), AttributeMap attributes = {}) {
    cases.push_back({.type = type,
                     .what = attributes.empty() ? "default attributes" : "attributes",
                     .operands = {std::move(operand)},
                     .attributes = std::move(attributes),
                     .reference = one([formula](const Arrays& in) { return mapped(in[0], formula); }),
                     .differentiable = false});
  };
  const double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<double> special{-infinity, -1, 0, 1, infinity, nan};
  logical("Not", {.shape = {7, 5}, .dtype = at::kBool}, [](double x) { return 1 - x; });
  logical("BitwiseNot", {.shape = {7, 5}, .low = -100, .high = 100, .dtype = at::kInt},
          [](double x) { return -x - 1; });
  logical("IsNaN", given({6}, special, at::kFloat, false), [](double x) { return x != x ? 1.0 : 0.0; });
  logical("IsInf", given({6}, special, at::kFloat, false), [](double x) { return std::abs(x) > 1e300 ? 1.0 : 0.0; });
  logical("IsInf", given({6}, special, at::kFloat, false), [](double x) { return x > 1e300 ? 1.0 : 0.0; },
          {{"detect_negative", int64_t{0}}});
}

}  // namespace espq::test
