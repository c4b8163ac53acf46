#pragma once
#include "core/quant/slot_rounding.h"

namespace espq {

/// Weights between the two steps of their grid around them, by a variable that learns which (AdaRound, Nagel et al.
/// 2020): codes = floor(weight / 2^e) + h, h = clamp(1.2 * sigmoid(v) - 0.1, 0, 1).
class SoftRounding final : public SlotRounding {
 public:
  /// `weight` stands still meanwhile. Its variable begins where the weight is.
  SoftRounding(const at::Tensor& weight, GridRounding rounding);
  /// The weight as it is now, whatever `value` is.
  at::Tensor round(const at::Tensor& value, bool relu = false) const override;
  Grid grid() const override { return {}; }  // values lie between its steps

  const at::Tensor& variable() const { return variable_; }  ///< leaf of the weight's shape
  at::Tensor share() const;                                 ///< h
  /// The nearer of the two steps: what the chip gets.
  at::Tensor hard() const;

 private:
  at::Tensor weights(const at::Tensor& share) const;

  GridRounding rounding_;
  at::Tensor scale_, floor_, variable_;
};

}  // namespace espq
