#pragma once
#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

#include "core/graph/graph.h"
#include "core/ops/linear.h"
#include "passes/report.h"

namespace espq {

struct FoldBatchNormalizationOptions {
  /// What becomes of a BatchNormalization behind no Conv, ConvTranspose or Gemm: a depthwise Conv of kernel 1 for 3-D
  /// and 4-D inputs (one operation with a weight scale per channel on the chip), Mul and Add otherwise.
  bool replace_isolated = true;
  /// What weights and biases are computed in, before they are rounded to their own type.
  at::ScalarType arithmetic = at::kDouble;
};

/// The numbers of a BatchNormalization, [channels] each, in one floating type.
struct Normalization {
  at::Tensor gamma, beta, mean, variance;
  double epsilon = 1e-5;

  Normalization to(at::ScalarType dtype) const;
  /// What at inference multiplies the rows of the weight in front, and the bias that `bias` becomes.
  at::Tensor scale() const;
  at::Tensor offset(const at::Tensor& bias) const;
};

/// nullopt for training mode, statistics that are not constant and statistics that somebody reads.
std::optional<Normalization> normalization_of(const Graph& graph, const Operation& operation);

/// A BatchNormalization and the linear operation in front, whose weight and bias can take it.
struct FoldableNormalization {
  LinearOperation linear;
  at::Tensor bias;  ///< of the linear operation: float64 [channels], zeros where it has none
  Normalization normalization;
};
std::optional<FoldableNormalization> foldable_normalization(const Graph& graph, const Operation& operation);

/// BatchNormalization at inference is s x + b with s = gamma / sqrt(var + epsilon), b = beta - s mean, one pair per
/// channel. Folds it into the weights in front of it. Refuses training mode and statistics that are not constant.
PassReport fold_batch_normalization(Graph& graph, const FoldBatchNormalizationOptions& options = {});
/// The same for one operation: what became of it, empty when nothing did.
std::string fold_batch_normalization(Graph& graph, Operation& operation, const FoldBatchNormalizationOptions& options);

}  // namespace espq
