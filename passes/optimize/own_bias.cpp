#include "passes/optimize/own_bias.h"

#include <ATen/ATen.h>

#include "core/ops/window.h"
#include "core/support/vector_clones.h"

namespace espq {
namespace {

int64_t channel_axis(const LinearOperation& linear, int64_t rank) {
  const int64_t axis = linear.rule().channel_axis;
  return axis < 0 ? rank + axis : axis;
}

ESPQ_CLONES void add_rows(const float* __restrict row, double* __restrict sums, int64_t rows, int64_t channels) {
  for (int64_t i = 0; i < rows; ++i, row += channels)
    for (int64_t channel = 0; channel < channels; ++channel) sums[channel] += row[channel];
}

/// In one pass over memory where the channels are innermost.
at::Tensor sums_of_channels(const at::Tensor& value, int64_t axis) {
  const bool innermost = value.is_cpu() && value.scalar_type() == at::kFloat && value.stride(axis) == 1 &&
                         value.is_non_overlapping_and_dense();
  if (!innermost) return value.to(at::kDouble).movedim(axis, 0).flatten(1).sum(1);
  const int64_t channels = value.size(axis);
  at::Tensor sums = at::zeros({channels}, at::kDouble);
  add_rows(value.const_data_ptr<float>(), sums.mutable_data_ptr<double>(), value.numel() / channels, channels);
  return sums;
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
  const int64_t axis = channel_axis(linear, result.dim());
  return sums_of_channels(result, axis) *
         (static_cast<double>(result.size(axis)) / static_cast<double>(result.numel()));
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
