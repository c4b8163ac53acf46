#pragma once
// The steps of lower(), in the order in which they run. Node order in the file follows from insertion order and use
// lists, so every step walks the topological order of its start and inserts in front of one reader at a time.
#include "core/graph/graph.h"
#include "passes/lowering/lower.h"

namespace espq::lowering {

/// Every constant has one reader, so that later steps may reorder and round it for that reader.
void split_shared_parameters(Graph& graph);

/// Attribute `activation` of Conv, Gemm and MatMul; a Relu that is the only reader goes into it.
void fuse_relu(Graph& graph, const LowerOptions& options);

/// Tells or arranges the order of a MatMul's right operand, which the chip wants in blocks of SIMD lanes.
void place_matmul_operands(Graph& graph, const LowerOptions& options);

/// Brings the graph from channels-first to channels-last, with Transpose nodes where an operator needs the model's own
/// order.
void to_channels_last(Graph& graph, const LowerOptions& options);

/// Removes pairs of Transpose nodes that undo each other.
void merge_transposes(Graph& graph);

/// QuantizeLinear, RequantizeLinear and DequantizeLinear where a reader's format differs from the writer's.
void insert_conversions(Graph& graph, const LowerOptions& options);

/// Attribute `quant_type` of every operation: the kernels that run it.
void set_quant_types(Graph& graph, const LowerOptions& options);

/// Storage dtype and exponents of every quantized tensor; constants become integers.
void store_integers(Graph& graph, const LowerOptions& options);

/// Filters of quantized Gemm become [N, K], transB goes.
void turn_gemm_filters(Graph& graph);

/// Attribute `gate_exponent` of quantized GRU and LSTM.
void set_gate_exponents(Graph& graph);

/// Look-up tables of one-operand functions, attribute `lut`.
void attach_tables(Graph& graph, const LowerOptions& options);

/// What the chip library would refuse or compute differently.
void check_consistency(const Graph& graph, const LowerOptions& options, LowerReport& report);

}  // namespace espq::lowering
