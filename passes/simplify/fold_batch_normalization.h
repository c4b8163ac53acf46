#pragma once
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

struct FoldBatchNormalizationOptions {
  /// What becomes of a BatchNormalization behind no Conv, ConvTranspose or Gemm: a depthwise Conv of kernel 1 for 3-D
  /// and 4-D inputs (one operation with a weight scale per channel on the chip), Mul and Add otherwise.
  bool replace_isolated = true;
  /// As esp-ppq 1.3.12: float32 arithmetic, parameters named <operation>_weight and <operation>_bias, and an operation
  /// that took a BatchNormalization moves to the end of the insertion order.
  bool like_incumbent = false;
};

/// BatchNormalization at inference is s x + b with s = gamma / sqrt(var + epsilon), b = beta - s mean, one pair per
/// channel. Folds it into the weights in front of it. Refuses training mode and statistics that are not constant.
PassReport fold_batch_normalization(Graph& graph, const FoldBatchNormalizationOptions& options = {});

}  // namespace espq
