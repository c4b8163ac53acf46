#include "core/ops/training/training.h"

namespace espq {

at::Tensor TrainingContext::operand(const Tensors& inputs, size_t slot) const {
  if (slot >= inputs.size()) return {};
  return inputs[slot].defined() && operands[slot] ? operands[slot]->round(inputs[slot]) : inputs[slot];
}

at::Tensor TrainingContext::finished(const at::Tensor& value) const {
  return result ? result->round(value, relu) : value;
}

const GridRounding* TrainingContext::fixed_result() const {
  const GridRounding* fixed = result ? result->fixed() : nullptr;
  return fixed && fixed->per_tensor() ? fixed : nullptr;
}

GridRounding take_fixed(SharedRounding& rounding) {
  if (!rounding || !rounding->fixed()) return {};
  GridRounding fixed = *rounding->fixed();
  rounding.reset();
  return fixed;
}

}  // namespace espq
