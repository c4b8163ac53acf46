#include "tests/operator_cases/operator_case.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <ostream>

#include "tests/operator_cases/families.h"

namespace espq::test {
namespace {

struct Printed {
  std::ostream& stream;
  void operator()(const at::Tensor& value) const { stream << "tensor " << value.sizes(); }
  template <typename T>
  void operator()(const std::vector<T>& values) const {
    stream << fmt::format("[{}]", fmt::join(values, ", "));
  }
  template <typename T>
  void operator()(const T& value) const {
    stream << value;
  }
};

}  // namespace

std::ostream& operator<<(std::ostream& stream, const OperatorCase& value) {
  stream << value.type << " (" << value.what << "):";
  for (const Operand& operand : value.operands) {
    stream << ' ';
    if (operand.omitted) {
      stream << '-';
      continue;
    }
    stream << (operand.constant ? "constant " : "") << c10::toString(operand.dtype) << at::IntArrayRef(operand.shape);
    if (operand.values.empty()) stream << " in " << operand.low << ".." << operand.high;
  }
  for (const auto& [name, attribute] : value.attributes) {
    stream << ' ' << name << '=';
    std::visit(Printed{stream}, attribute);
  }
  return stream;
}

const std::vector<OperatorCase>& operator_cases() {
  static const Cases cases = [] {
    Cases all;
    add_unary_cases(all);
    add_binary_cases(all);
    add_product_cases(all);
    add_window_cases(all);
    add_reduction_cases(all);
    add_normalization_cases(all);
    add_movement_cases(all);
    add_indexing_cases(all);
    add_shape_cases(all);
    add_recurrent_cases(all);
    return all;
  }();
  return cases;
}

Tensors make_operands(const OperatorCase& value, uint64_t seed) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  Tensors result;
  for (const Operand& operand : value.operands) {
    if (operand.omitted) {
      result.emplace_back();
      continue;
    }
    at::Tensor numbers = operand.values.empty() ? operand.low + (operand.high - operand.low) *
                                                                    at::rand(operand.shape, generator, at::kDouble)
                                                : at::tensor(operand.values, at::kDouble).reshape(operand.shape);
    if (operand.dtype == at::kBool)
      numbers = numbers > 0;
    else if (!at::isFloatingType(operand.dtype))
      numbers = at::floor(numbers);
    result.push_back(numbers.to(operand.dtype));
  }
  return result;
}

Array to_array(const at::Tensor& tensor) {
  const at::Tensor values = tensor.detach().to(at::kDouble).contiguous();
  const double* first = values.const_data_ptr<double>();
  return {values.sizes().vec(), {first, first + values.numel()}};
}

}  // namespace espq::test
