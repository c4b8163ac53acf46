#include "passes/lowering/lower.h"

#include "core/support/error.h"
#include "passes/lowering/steps.h"
#include "passes/run.h"

namespace espq {

Graph lower(const Graph& quantized, const LowerOptions& options, const Quirks& quirks, Report* report) {
  internal_check(quantized.target() != nullptr && !quantized.is_chip(), "lower() takes a graph that was quantized");
  Report unread;
  Graph graph = quantized.clone();
  Report& passes = report ? *report : unread;
  PassSequence run(graph, passes, Verify::Later), arrived(graph, passes);
  run(lowering::split_shared_parameters);
  if (options.saturating_clips) run(lowering::saturating_clips);
  run([&](Graph& g) { return lowering::fuse_relu(g, quirks); });
  run([&](Graph& g) { return lowering::place_matmul_operands(g, options); });
  run([&](Graph& g) { return lowering::to_channels_last(g, quirks); });
  run(lowering::merge_transposes);
  run([&](Graph& g) { return lowering::insert_conversions(g, quirks); });
  run([&](Graph& g) { return lowering::choose_kernels(g, options); });
  run([&](Graph& g) { return lowering::store_integers(g, quirks); });
  run(lowering::turn_gemm_filters);
  run(lowering::set_gate_exponents);
  run([&](Graph& g) { return lowering::attach_tables(g, options, quirks); });
  if (!quirks.misread_forms) run(lowering::state_defaults);
  graph.set_stage(Stage::Chip);
  arrived([&](Graph& g) { return lowering::check_consistency(g, options); });
  return graph;
}

}  // namespace espq
