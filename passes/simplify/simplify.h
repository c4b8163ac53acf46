#pragma once
#include "core/graph/graph.h"
#include "passes/quirks.h"
#include "passes/report.h"

namespace espq {

/// Which rewrites run; each is a pass with a header of its own that tells what it does and when it refuses.
struct SimplifyOptions {
  bool fold_constants = true;
  bool remove_no_ops = true;
  bool merge_duplicates = true;
  bool fold_batch_normalization = true;
  bool fold_scale = true;
  /// Also into the weights behind the multiplication (FoldScaleOptions::into_consumer).
  bool fold_scale_into_consumer = true;
  bool fold_offset = true;
  bool fold_padding = true;
  bool matmul_to_gemm = true;
  /// MatMul and Add of three or more dimensions as Reshape, Gemm, Reshape.
  bool matmul_to_gemm_higher_rank = true;
  bool merge_chains = true;
  bool merge_clamps = true;
  bool fuse_activations = true;     ///< Swish, HardSwish, HardSigmoid, Gelu, LogSoftmax
  bool fuse_normalizations = true;  ///< LayerNormalization, RMSNormalization, LpNormalization
  /// A constant larger than this many elements is not computed ahead of time, unless it is no larger than its operands.
  int64_t max_constant_elements = int64_t{1} << 22;
};

template <class Fields>
void describe(Fields& fields, SimplifyOptions& options) {
  fields("fold_constants", options.fold_constants);
  fields("remove_no_ops", options.remove_no_ops);
  fields("merge_duplicates", options.merge_duplicates);
  fields("fold_batch_normalization", options.fold_batch_normalization);
  fields("fold_scale", options.fold_scale);
  fields("fold_scale_into_consumer", options.fold_scale_into_consumer);
  fields("fold_offset", options.fold_offset);
  fields("fold_padding", options.fold_padding);
  fields("matmul_to_gemm", options.matmul_to_gemm);
  fields("matmul_to_gemm_higher_rank", options.matmul_to_gemm_higher_rank);
  fields("merge_chains", options.merge_chains);
  fields("merge_clamps", options.merge_clamps);
  fields("fuse_activations", options.fuse_activations);
  fields("fuse_normalizations", options.fuse_normalizations);
  fields("max_constant_elements", options.max_constant_elements);
}

/// Rewrites the float graph until nothing changes any more: fewer operations, the same function. Graph inputs and
/// outputs keep their names and order; operations and variables that survive keep theirs. Afterwards every parameter
/// has one reader and every variable a shape. The report has one entry per pass, with all its runs. The graph inputs
/// need shapes (UserError naming the input otherwise).
Report simplify(Graph& graph, const SimplifyOptions& options = {}, const Quirks& quirks = {});

}  // namespace espq
