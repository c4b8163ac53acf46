#include "passes/simplify/format_like_incumbent.h"

#include "core/exec/executor.h"
#include "core/ops/operator.h"
#include "passes/simplify/fold_batch_normalization.h"
#include "passes/simplify/fold_offset.h"
#include "passes/simplify/fuse_lp_normalization.h"
#include "passes/simplify/fuse_rms_normalization.h"
#include "passes/simplify/fuse_swish.h"
#include "passes/simplify/remove_dead_code.h"
#include "passes/simplify/rewrite.h"
#include "passes/simplify/separate_parameters.h"

namespace espq {
namespace {

PassReport remove_identities(Graph& graph) {
  PassReport report{"remove_identities"};
  for (Operation* operation : graph.operations()) {
    if (operation->type() != "Identity" || !can_bypass(graph, *operation)) continue;
    graph.bypass(*operation);
    report.count("Identity removed");
  }
  return report;
}

}  // namespace

SimplifyReport format_like_incumbent(Graph& graph) {
  SimplifyReport report;
  report.operations_before = graph.operation_count();
  report.rounds = 1;
  infer_shapes(graph, zero_inputs(graph));
  const auto run = [&](auto&& pass) { report.add(timed([&] { return pass(graph); })); };
  run(separate_parameters);
  run([](Graph& g) { return fold_offset(g, {.like_incumbent = true}); });
  run([](Graph& g) { return fold_batch_normalization(g, {.replace_isolated = false, .like_incumbent = true}); });
  run([](Graph& g) { return fold_batch_normalization(g, {.like_incumbent = true}); });
  run([](Graph& g) { return fuse_swish(g, {.like_incumbent = true}); });
  run(remove_dead_code);
  run([](Graph& g) { return fuse_rms_normalization(g, {.like_incumbent = true}); });
  run([](Graph& g) { return fuse_lp_normalization(g, {.like_incumbent = true}); });
  run(remove_identities);
  run(remove_dead_code);
  verify(graph);
  report.operations_after = graph.operation_count();
  return report;
}

}  // namespace espq
