#include "passes/optimize/soft_rounding.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "core/quant/fake_quantize.h"
#include "core/quant/scheme.h"

namespace espq {
namespace {

constexpr double kStretch = 1.2, kOffset = 0.1;  // h reaches 0 and 1 at finite variables

}  // namespace

SoftRounding::SoftRounding(const at::Tensor& weight, GridRounding rounding) : rounding_(std::move(rounding)) {
  const c10::NoGradGuard no_gradients;
  scale_ = scale_tensor(rounding_.grid.exponents, rounding_.channel_axis, weight);
  const at::Tensor codes = weight.detach() / scale_;
  floor_ = codes.floor();
  variable_ = (kStretch / (codes - floor_ + kOffset) - 1).log().neg();
  variable_.requires_grad_(true);
}

at::Tensor SoftRounding::share() const { return (variable_.sigmoid() * kStretch - kOffset).clamp(0, 1); }

at::Tensor SoftRounding::weights(const at::Tensor& share) const {
  return (floor_ + share).clamp(quant_min(rounding_.grid.bits), quant_max(rounding_.grid.bits)) * scale_;
}

at::Tensor SoftRounding::round(const at::Tensor&, bool) const { return weights(share()); }

at::Tensor SoftRounding::hard() const {
  const c10::NoGradGuard no_gradients;
  return weights(share().ge(0.5).to(floor_.scalar_type()));
}

}  // namespace espq
