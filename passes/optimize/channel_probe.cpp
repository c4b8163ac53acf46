#include "passes/optimize/channel_probe.h"

#include <ATen/ATen.h>

namespace espq {

at::Tensor along(const at::Tensor& vector, int64_t axis, int64_t rank) {
  Shape shape(static_cast<size_t>(rank), 1);
  shape[static_cast<size_t>(axis)] = vector.numel();
  return vector.reshape(shape);
}

at::Tensor probe_values(const Shape& shape) {
  return (at::arange(c10::multiply_integers(shape), at::kDouble) * 0.6180339887498949)
      .frac()
      .sub_(0.5)
      .mul_(32)
      .to(at::kFloat)
      .reshape(shape);
}

Tensors run_on(const Operation& operation, size_t slot, const at::Tensor& value) {
  Tensors inputs;
  for (size_t i = 0; i < operation.inputs().size(); ++i) {
    const Variable* input = operation.input(i);
    inputs.push_back(i == slot ? value : input ? input->value() : at::Tensor());
  }
  return definition_of(operation).forward({.operation = operation, .chip = true}, inputs);
}

}  // namespace espq
