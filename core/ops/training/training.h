#pragma once
#include <memory>
#include <vector>

#include "core/ops/operator.h"
#include "core/quant/slot_rounding.h"

namespace espq {

using SharedRounding = std::shared_ptr<const SlotRounding>;

/// Everything that a node of the gradient graph may depend on.
struct TrainingContext {
  ForwardContext forward;
  /// Per operand: the grid that it lies on once it is rounded; 0 bits where there is none or nobody knows.
  std::vector<Grid> grids;
  /// Per operand: how it has to be rounded first; nullptr: it is taken as it comes.
  std::vector<SharedRounding> operands;
  /// How the result has to be rounded, and whether max(result, 0) is; nullptr: it is given as it is.
  SharedRounding result = nullptr;
  bool relu = false;

  /// The operand, rounded; undefined where it was omitted.
  at::Tensor operand(const Tensors& inputs, size_t slot) const;
  /// The result, rounded.
  at::Tensor finished(const at::Tensor& value) const;
  /// The fixed rounding of the result to a grid with one exponent; nullptr where it is of another kind.
  const GridRounding* fixed_result() const;
};

/// Hands the rounding over to a kernel that does it in its own pass: nothing is left of it then. 0 bits where it is
/// nobody's but its own.
GridRounding take_fixed(SharedRounding& rounding);

}  // namespace espq
