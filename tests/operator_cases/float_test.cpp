// Every operator has a case; its float results and gradients against the reference in double.
#include <ATen/ATen.h>

#include <set>

#include "tests/operator_cases/check.h"

namespace espq::test {
namespace {

Tensors run_forward(const OperatorCase& value, const Tensors& operands) {
  Graph graph;
  std::vector<Variable*> results;
  for (size_t i = 0; i < value.results; ++i) results.push_back(&graph.add_variable());
  Operation& operation = graph.add_operation(value.type, "node", {}, results, value.attributes);
  normalize_attributes(operation);
  return definition_of(operation).forward({.operation = operation}, operands);
}

TEST(OperatorCases, EveryOperatorHasOne) {
  std::set<std::string_view> described;
  std::set<std::string> texts;
  for (const OperatorCase& value : operator_cases()) {
    described.insert(value.type);
    EXPECT_TRUE(texts.insert(text_of(value)).second) << value << " stands there twice";
    EXPECT_TRUE(value.chip.compared || !value.chip.why.empty()) << value << " has to say why the chip is left out";
  }
  for (const OperatorDefinition& row : operators().all())
    EXPECT_TRUE(described.count(row.name)) << row.name << " has no case in tests/operator_cases";
}

TEST(OperatorCases, ForwardEqualsTheReference) {
  for_every_case([](const OperatorCase& value) {
    const Tensors operands = make_operands(value, kCaseSeed);
    const Arrays got = arrays_of(run_forward(value, operands)), want = value.reference(arrays_of(operands));
    ASSERT_EQ(want.size(), value.results);
    ASSERT_GE(got.size(), want.size());  // a kernel may give optional results that nobody asked for
    for (size_t i = 0; i < want.size(); ++i) expect_near(got[i], want[i], value.tolerance, "result");
  });
}

/// Sum of the first result, each element with a weight of its own.
double weighted_sum(const Array& result) {
  double sum = 0;
  for (size_t i = 0; i < result.values.size(); ++i) sum += result.values[i] * std::sin(1.0 + static_cast<double>(i));
  return sum;
}

/// Elements of a large operand that are looked at.
constexpr size_t kSampled = 40;

/// Central differences of the reference in double, of elements that are spread over the operand.
Array numeric_gradient(const OperatorCase& value, Arrays operands, size_t slot) {
  constexpr double kStep = 1e-5;
  Array gradient{{0}, {}};
  const size_t size = operands[slot].values.size(), distance = std::max<size_t>(1, size / kSampled);
  for (size_t i = 0; i < size; i += distance) {
    double& element = operands[slot].values[i];
    const double before = element;
    element = before + kStep;
    const double above = weighted_sum(value.reference(operands)[0]);
    element = before - kStep;
    gradient.values.push_back((above - weighted_sum(value.reference(operands)[0])) / (2 * kStep));
    element = before;
  }
  gradient.shape[0] = static_cast<int64_t>(gradient.values.size());
  return gradient;
}

/// The same elements of a tensor.
Array sampled(const at::Tensor& tensor) {
  const int64_t distance = std::max<int64_t>(1, tensor.numel() / static_cast<int64_t>(kSampled));
  return to_array(tensor.flatten().slice(0, 0, tensor.numel(), distance));
}

TEST(OperatorCases, GradientsEqualDifferencesOfTheReference) {
  for_every_case([](const OperatorCase& value) {
    if (!value.differentiable) return;
    Tensors operands = make_operands(value, kCaseSeed);
    std::vector<size_t> slots;
    for (size_t slot = 0; slot < operands.size(); ++slot)
      if (operands[slot].defined() && operands[slot].is_floating_point() && value.operands[slot].values.empty()) {
        operands[slot].requires_grad_();
        slots.push_back(slot);
      }
    const at::Tensor result = run_forward(value, operands)[0];
    const at::Tensor weights =
        at::sin(1 + at::arange(result.numel(), at::kDouble)).to(at::kFloat).reshape(result.sizes());
    (result * weights).sum().backward();
    for (const size_t slot : slots) {
      const at::Tensor gradient = operands[slot].grad();
      // Float32 arithmetic and a step of 1e-5 in double: five digits.
      expect_near(sampled(gradient.defined() ? gradient : at::zeros_like(operands[slot])),
                  numeric_gradient(value, arrays_of(operands), slot), 1e-4, "gradient");
    }
  });
}

}  // namespace
}  // namespace espq::test
