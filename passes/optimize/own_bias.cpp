#include "passes/optimize/own_bias.h"

#include <ATen/ATen.h>

#include "core/ops/window.h"

namespace espq {
namespace {

int64_t channel_axis(const LinearOperation& linear, int64_t rank) {
  const int64_t axis = linear.rule().channel_axis;
  return axis < 0 ? rank + axis : axis;
}

}  // namespace

bool has_own_bias(const LinearOperation& linear) {
  const Variable* bias = linear.bias_variable();
  return bias && bias->is_parameter() && bias->uses().size() == 1 && linear.operation().quantized() &&
         linear.operation().input_quant()[*linear.bias_slot()].quantizes() && linear.bias().has_value();
}

bool pads_with_zeros(const Operation& layer) {
  if (!layer.has("pads") && !layer.has("auto_pad")) return false;
  const Variable *data = layer.input(0), *weight = layer.input(1);
  const Shape kernel(weight->value().sizes().begin() + 2, weight->value().sizes().end());
  return !data->shape() || read_window(layer, *data->shape(), kernel).padded();
}

at::Tensor channel_mean(const LinearOperation& linear, const at::Tensor& result) {
  return result.to(at::kDouble).movedim(channel_axis(linear, result.dim()), 0).flatten(1).mean(1);
}

at::Tensor without_channel_mean(const LinearOperation& linear, const at::Tensor& result) {
  return result - along_channels(linear, channel_mean(linear, result), result.dim());
}

at::Tensor along_channels(const LinearOperation& linear, const at::Tensor& numbers, int64_t rank) {
  Shape shape(static_cast<size_t>(rank), 1);
  shape[static_cast<size_t>(channel_axis(linear, rank))] = linear.rows();
  return numbers.reshape(shape);
}

}  // namespace espq
