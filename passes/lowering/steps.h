#pragma once
// The steps of lower(), in the order in which they run. Node order in the file follows from insertion order and use
// lists, so every step walks the topological order of its start and inserts in front of one reader at a time.
#include "core/graph/graph.h"
#include "passes/lowering/lower.h"

namespace espq::lowering {

/// Every constant has one reader, so that later steps may reorder and round it for that reader.
PassReport split_shared_parameters(Graph& graph);

/// A Clip from 0 to what its grid cannot exceed becomes a Relu, which costs nothing behind a Conv; one from the lowest
/// code on goes.
PassReport saturating_clips(Graph& graph);

/// A Relu that is the only reader of a Conv, Gemm or MatMul goes into it.
PassReport fuse_relu(Graph& graph, const Quirks& quirks);

/// Tells or arranges the order of a MatMul's right operand, which the chip wants in blocks of SIMD lanes.
PassReport place_matmul_operands(Graph& graph, const LowerOptions& options);

/// Brings the graph from channels-first to channels-last, with Transpose nodes where an operator needs the model's own
/// order.
PassReport to_channels_last(Graph& graph, const Quirks& quirks);

/// Removes pairs of Transpose nodes that undo each other.
PassReport merge_transposes(Graph& graph);

/// QuantizeLinear, RequantizeLinear and DequantizeLinear where a reader's format differs from the writer's.
PassReport insert_conversions(Graph& graph, const Quirks& quirks);

/// Which kernels run every operation.
PassReport choose_kernels(Graph& graph, const LowerOptions& options);

/// Storage dtype and exponents of every quantized tensor; constants become integers.
PassReport store_integers(Graph& graph, const Quirks& quirks);

/// Filters of quantized Gemm become [N, K], transB goes.
PassReport turn_gemm_filters(Graph& graph);

/// The grid of gates and cell state of quantized GRU and LSTM.
PassReport set_gate_exponents(Graph& graph);

/// Look-up tables of one-operand functions.
PassReport attach_tables(Graph& graph, const LowerOptions& options, const Quirks& quirks);

/// Attributes that the model left out and for which the chip library has no default, or another one, will be written.
PassReport state_defaults(Graph& graph);

/// What the chip library would refuse or compute differently.
PassReport check_consistency(const Graph& graph, const LowerOptions& options);

}  // namespace espq::lowering
