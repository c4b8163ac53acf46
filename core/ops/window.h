#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "core/graph/graph.h"

// Geometry of sliding windows: what Conv, ConvTranspose and the pools share.
namespace espq {

/// Attributes of one window, one entry per spatial dimension.
struct Window {
  std::vector<int64_t> kernel, strides, dilations;
  std::vector<int64_t> begin, end;  ///< zero padding in front and behind; auto_pad is already resolved

  size_t rank() const { return kernel.size(); }
  /// Length that the kernel covers along dimension `axis`.
  int64_t reach(size_t axis) const { return dilations[axis] * (kernel[axis] - 1) + 1; }
  bool symmetric() const { return begin == end; }
  bool dilated() const;
  bool padded() const;
  /// As attribute `pads` says it: begin..., end...
  std::vector<int64_t> pads() const;
};

/// Reads strides, dilations, pads and auto_pad of `operation` for an input of shape [N, C, spatial...]. Throws
/// UserError naming the operation when lists do not fit the rank.
Window read_window(const Operation& operation, at::IntArrayRef input, std::vector<int64_t> kernel);

/// Padding behind with which the floor rule gives the output length that ceil_mode asks for: the last window starts
/// inside the input or the padding in front.
std::vector<int64_t> closed_end(const Window& window, at::IntArrayRef input, bool ceil_mode);

/// The input with explicit padding in front of and behind each spatial dimension (negative amounts crop), filled with
/// `fill`.
at::Tensor pad_spatial(const at::Tensor& input, const std::vector<int64_t>& begin, const std::vector<int64_t>& end,
                       double fill);

}  // namespace espq
