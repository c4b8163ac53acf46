#include "passes/optimize/own_bias.h"

#include <ATen/ATen.h>

namespace espq {
namespace {

int64_t channel_axis(const LinearOperation& linear, const at::Tensor& result) {
  const int64_t axis = linear.rule().channel_axis;
  return axis < 0 ? result.dim() + axis : axis;
}

}  // namespace

bool has_own_bias(const LinearOperation& linear) {
  const Variable* bias = linear.bias_variable();
  return bias && bias->is_parameter() && bias->uses().size() == 1 && linear.operation().quantized() &&
         linear.operation().input_quant()[*linear.bias_slot()].quantizes() && linear.bias().has_value();
}

at::Tensor channel_mean(const LinearOperation& linear, const at::Tensor& result) {
  return result.to(at::kDouble).movedim(channel_axis(linear, result), 0).flatten(1).mean(1);
}

at::Tensor without_channel_mean(const LinearOperation& linear, const at::Tensor& result) {
  Shape shape(static_cast<size_t>(result.dim()), 1);
  shape[static_cast<size_t>(channel_axis(linear, result))] = linear.rows();
  return result - channel_mean(linear, result).reshape(shape);
}

}  // namespace espq
