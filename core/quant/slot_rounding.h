#pragma once
#include <ATen/core/Tensor.h>

#include "core/quant/grid.h"

namespace espq {

/// How one slot rounds its tensor while the network trains. Whoever trains something else than plain weights derives
/// its own from this.
class SlotRounding {
 public:
  virtual ~SlotRounding() = default;

  /// The value (with `relu`, max(value, 0)) as the network is to see it, with the gradient that it is to have.
  virtual at::Tensor round(const at::Tensor& value, bool relu = false) const = 0;
  /// The grid that results lie on; 0 bits where they may lie between its steps.
  virtual Grid grid() const = 0;
  /// Set where round() is this and nothing else, so that a kernel may do it in its own pass over memory.
  virtual const GridRounding* fixed() const { return nullptr; }
};

/// Rounding to a grid that stands still; the gradient passes as if nothing had been rounded.
class StraightThroughRounding final : public SlotRounding {
 public:
  explicit StraightThroughRounding(GridRounding rounding) : rounding_(std::move(rounding)) {}
  at::Tensor round(const at::Tensor& value, bool relu = false) const override;
  Grid grid() const override { return rounding_.grid; }
  const GridRounding* fixed() const override { return &rounding_; }

 private:
  GridRounding rounding_;
};

/// Rounding to a grid whose exponents learn, too (TQT, see quantize_gradient.h).
class TrainedThreshold final : public SlotRounding {
 public:
  /// `log2_scale`: a leaf with one element per exponent, whose rounded values are the exponents of the grid.
  TrainedThreshold(GridRounding rounding, at::Tensor log2_scale)
      : rounding_(std::move(rounding)), log2_scale_(std::move(log2_scale)) {}
  at::Tensor round(const at::Tensor& value, bool relu = false) const override;
  Grid grid() const override { return rounding_.grid; }

 private:
  GridRounding rounding_;
  at::Tensor log2_scale_;
};

}  // namespace espq
