#include "core/quant/slot_rounding.h"

#include "core/quant/quantize_gradient.h"

namespace espq {

at::Tensor StraightThroughRounding::round(const at::Tensor& value, bool relu) const {
  return fake_quantize_with_gradient(value, rounding_, {}, relu);
}

at::Tensor TrainedThreshold::round(const at::Tensor& value, bool relu) const {
  return fake_quantize_with_gradient(value, rounding_, log2_scale_, relu);
}

}  // namespace espq
