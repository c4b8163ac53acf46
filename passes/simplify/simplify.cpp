#include "passes/simplify/simplify.h"

#include "core/exec/executor.h"
#include "core/ops/operator.h"
#include "core/support/error.h"
#include "passes/run.h"
#include "passes/simplify/fold_batch_normalization.h"
#include "passes/simplify/fold_constants.h"
#include "passes/simplify/fold_gemm_factors.h"
#include "passes/simplify/fold_offset.h"
#include "passes/simplify/fold_padding.h"
#include "passes/simplify/fold_scale.h"
#include "passes/simplify/fold_transpose_into_gemm.h"
#include "passes/simplify/fuse_gelu.h"
#include "passes/simplify/fuse_hard_activations.h"
#include "passes/simplify/fuse_layer_normalization.h"
#include "passes/simplify/fuse_log_softmax.h"
#include "passes/simplify/fuse_lp_normalization.h"
#include "passes/simplify/fuse_rms_normalization.h"
#include "passes/simplify/fuse_swish.h"
#include "passes/simplify/matmul_to_gemm.h"
#include "passes/simplify/merge_chains.h"
#include "passes/simplify/merge_clamps.h"
#include "passes/simplify/merge_duplicates.h"
#include "passes/simplify/remove_dead_code.h"
#include "passes/simplify/remove_no_ops.h"
#include "passes/simplify/separate_parameters.h"

namespace espq {
namespace {

struct Step {
  bool enabled;
  std::function<PassReport(Graph&)> pass;
};

/// The passes of one round. What recognises a composition comes before what would fold parts of it away.
std::vector<Step> steps(const SimplifyOptions& options, const Quirks& quirks) {
  return {
      {options.fold_constants,
       [&](Graph& graph) { return fold_constants(graph, {.max_elements = options.max_constant_elements}); }},
      {true, remove_dead_code},
      {options.remove_no_ops, remove_no_ops},
      {options.merge_duplicates, merge_duplicates},
      {options.fuse_normalizations, fuse_layer_normalization},
      {options.fuse_normalizations, fuse_rms_normalization},
      {options.fuse_normalizations, [](Graph& graph) { return fuse_lp_normalization(graph); }},
      {options.fuse_activations, fuse_gelu},
      {options.fuse_activations, fuse_hard_activations},
      {options.fuse_activations, fuse_swish},
      {options.fuse_activations, fuse_log_softmax},
      // Behind fuse_hard_activations, which reads the clamp in the middle of a ramp.
      {options.merge_clamps, merge_clamps},
      {true, remove_dead_code},
      {true, fold_gemm_factors},
      {options.fold_batch_normalization,
       [](Graph& graph) { return fold_batch_normalization(graph, {.replace_isolated = false}); }},
      {options.fold_scale,
       [&](Graph& graph) { return fold_scale(graph, {.into_consumer = options.fold_scale_into_consumer}, quirks); }},
      {options.matmul_to_gemm,
       [&](Graph& graph) { return matmul_to_gemm(graph, {.higher_rank = options.matmul_to_gemm_higher_rank}); }},
      {options.fold_offset, fold_offset},
      {options.fold_padding, fold_padding},
      {options.merge_chains,
       [&](Graph& graph) { return merge_chains(graph, {.across_reshapes = !quirks.format_like_incumbent}); }},
      {options.merge_chains, fold_transpose_into_gemm},
      {true, remove_dead_code},
  };
}

/// A rewrite of every pattern takes few rounds; more than this many means that two passes undo each other.
constexpr int kMaxRounds = 100;

}  // namespace

Report simplify(Graph& graph, const SimplifyOptions& options, const Quirks& quirks) {
  Report report;
  const auto run = [&](const std::function<PassReport(Graph&)>& pass) {
    const PassReport result = run_pass(graph, pass);
    report.merge(result);
    return result.changed();
  };
  infer_shapes(graph, zero_inputs(graph));
  bool changed = true;
  for (int round = 1; changed; ++round) {
    internal_check(round <= kMaxRounds, "the simplifier does not come to rest");
    changed = false;
    for (const Step& step : steps(options, quirks))
      if (step.enabled) changed |= run(step.pass);
    // Only what no producer could take is left by now.
    if (!changed && options.fold_batch_normalization)
      changed |= run([](Graph& graph) { return fold_batch_normalization(graph); });
  }
  run(separate_parameters);
  verify(graph);
  return report;
}

}  // namespace espq
