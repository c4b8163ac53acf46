#pragma once
// Rounding with a straight-through gradient, by LibTorch's own operators.
#include <ATen/ATen.h>

#include <cmath>

#include "core/graph/graph.h"

namespace espq {

/// 2^e, shaped to broadcast over `like` along axis 0 when there is one per channel.
inline at::Tensor scales(const std::vector<int>& exponents, const at::Tensor& like) {
  std::vector<double> values;
  values.reserve(exponents.size());
  for (int exponent : exponents) values.push_back(std::ldexp(1.0, exponent));
  const at::Tensor result = at::tensor(values, at::kDouble).to(like.scalar_type());
  if (exponents.size() == 1) return result.reshape({});
  Shape shape(like.dim(), 1);
  shape[0] = result.numel();
  return result.reshape(shape);
}

inline at::Tensor rounded(const at::Tensor& value, Rounding rounding) {
  return rounding == Rounding::HalfEven ? at::round(value) : at::floor(value + 0.5);
}

/// Straight-through rounding of one slot of a quantized graph, by detach().
struct StraightThrough {
  const Graph& graph;
  bool mask_per_channel;

  at::Tensor operator()(const SlotQuant& slot, const at::Tensor& value) const {
    if (!slot.quantizes()) return value;
    const std::vector<int>& exponents = slot_exponents(graph, slot);
    const at::Tensor scale = scales(exponents, value), r = rounded(value.detach() / scale, graph.target()->rounding);
    const at::Tensor q = r.clamp(quant_min(slot.bits), quant_max(slot.bits));
    const bool masked = slot.channel_axis < 0 || mask_per_channel;
    const at::Tensor through = masked ? value * (r == q) : value;
    return through + (q * scale - through).detach();
  }
  at::Tensor pool(const at::Tensor& value) const { return at::max_pool2d(value, 2); }
};

}  // namespace espq
