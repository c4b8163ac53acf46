#pragma once
#include <memory>

#include "core/quant/slot_rounding.h"

namespace espq {

/// How much of every activation is rounded at this moment, and the randomness of this moment: shared by the slots of
/// one compiled part, changed by the loop between two runs.
struct RoundedShare {
  double share = 1;   ///< 0: nothing is rounded, 1: everything
  uint64_t seed = 0;  ///< another one per step and part of a batch
};

/// Rounding that comes gradually (the idea of QDrop): a random share of the elements is rounded, the others pass as
/// they are, clipping included. Which ones is a function of the share's seed and of the slot. Gradients are those of
/// fake_quantize_with_gradient() for rounded elements, 1 for the others.
class GradualRounding final : public SlotRounding {
 public:
  /// `log2_scale`: as in TrainedThreshold; undefined where the exponents stand still.
  GradualRounding(GridRounding rounding, at::Tensor log2_scale, std::shared_ptr<const RoundedShare> share,
                  uint64_t slot)
      : rounding_(std::move(rounding)), log2_scale_(std::move(log2_scale)), share_(std::move(share)), slot_(slot) {}
  at::Tensor round(const at::Tensor& value, bool relu = false) const override;
  Grid grid() const override { return {}; }  // values lie between its steps

 private:
  GridRounding rounding_;
  at::Tensor log2_scale_;
  std::shared_ptr<const RoundedShare> share_;
  uint64_t slot_;
};

}  // namespace espq
