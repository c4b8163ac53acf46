#include "passes/lowering/lower.h"

#include "core/support/error.h"
#include "passes/lowering/steps.h"

namespace espq {

const std::vector<std::pair<RuntimeLevel, std::string_view>> EnumNames<RuntimeLevel>::values = {
    {RuntimeLevel::V3_3_9, "3.3.9"}, {RuntimeLevel::Newer, "newer"}};

LowerOptions LowerOptions::incumbent() {
  LowerOptions options;
  options.runtime_level = RuntimeLevel::Newer;
  options.defects = {.constants_keep_channels_first = true,
                     .slopes_meet_any_axis = true,
                     .stale_transpose_shapes = true,
                     .one_format_per_graph_input = true,
                     .absolute_requantize_threshold = true,
                     .fuse_over_graph_outputs = true,
                     .bias_overflow_wraps = true,
                     .unread_int16_tables = true};
  return options;
}

Graph lower(const Graph& quantized, const LowerOptions& options, LowerReport* report) {
  internal_check(quantized.target() != nullptr && !quantized.is_chip(), "lower() takes a graph that was quantized");
  LowerReport unheard;
  Graph graph = quantized.clone();
  lowering::split_shared_parameters(graph);
  lowering::fuse_relu(graph, options);
  lowering::place_matmul_operands(graph, options);
  lowering::to_channels_last(graph, options);
  lowering::merge_transposes(graph);
  lowering::insert_conversions(graph, options);
  lowering::set_quant_types(graph, options);
  lowering::store_integers(graph, options);
  lowering::turn_gemm_filters(graph);
  lowering::set_gate_exponents(graph);
  lowering::attach_tables(graph, options);
  lowering::check_consistency(graph, options, report ? *report : unheard);
  graph.set_stage(Stage::Chip);
  return graph;
}

}  // namespace espq
