#include "passes/optimize/own_bias.h"

#include <ATen/ATen.h>

namespace espq {

bool has_own_bias(const LinearOperation& linear) {
  const Variable* bias = linear.bias_variable();
  return bias && bias->is_parameter() && bias->uses().size() == 1 && linear.operation().quantized() &&
         linear.operation().input_quant()[*linear.bias_slot()].quantizes() && linear.bias().has_value();
}

at::Tensor channel_mean(const LinearOperation& linear, const at::Tensor& result) {
  const int64_t axis = linear.rule().channel_axis;
  return result.to(at::kDouble).movedim(axis < 0 ? result.dim() + axis : axis, 0).flatten(1).mean(1);
}

}  // namespace espq
