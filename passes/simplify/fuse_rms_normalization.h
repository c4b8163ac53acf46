#pragma once
#include <ATen/core/Tensor.h>

#include <optional>

#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

/// An RMSNormalization that is written as arithmetic.
struct RmsNormalization {
  Variable* value = nullptr;
  Operation* reduction = nullptr;  ///< the mean of the squares
  int64_t axis = 0;                ///< the first that is normalized, counted from the front
  double epsilon = 0;
  size_t gain_slot = 0;  ///< of the last operation
  at::Tensor gain;       ///< of the normalized shape
};

/// What `last`, the Mul by the gain, computes.
std::optional<RmsNormalization> rms_normalization(const Graph& graph, Operation& last);
/// `last` becomes the operator. `axis` may count from the end.
void become_rms_normalization(Graph& graph, Operation& last, const RmsNormalization& found, int64_t axis,
                              double epsilon);

/// x / sqrt(mean(x^2) + epsilon) times a constant gain becomes RMSNormalization over the trailing axes; the division
/// may also be a Reciprocal (or 1 / .) and a Mul. Refuses other exponents, axes that are not the trailing ones, gains
/// of another shape and interior values that somebody else reads. Needs shapes.
PassReport fuse_rms_normalization(Graph& graph);

}  // namespace espq
