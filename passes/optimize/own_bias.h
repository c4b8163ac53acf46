#pragma once
#include <ATen/core/Tensor.h>

#include "core/ops/linear.h"

namespace espq {

/// The layer has a constant bias per channel that nobody else reads and that settle() puts on the grid of its sums: one
/// that a pass may move.
bool has_own_bias(const LinearOperation& linear);

/// Whether the layer pads its data with zeros (or might: their shape is not known). A number that is added to all its
/// data would be missing there.
bool pads_with_zeros(const Operation& layer);

/// Mean per channel of what the layer gives, [rows] in float64: what a bias can take back of a difference.
at::Tensor channel_mean(const LinearOperation& linear, const at::Tensor& result);
/// `result` without that mean, in float64.
at::Tensor without_channel_mean(const LinearOperation& linear, const at::Tensor& result);
/// One number per channel, in the shape in which it acts on results of `rank` dimensions.
at::Tensor along_channels(const LinearOperation& linear, const at::Tensor& numbers, int64_t rank);

}  // namespace espq
