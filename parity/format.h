#pragma once
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

/// Quirks::format_like_incumbent: what esp-ppq 1.3.12 does to a graph between reading and quantizing it, in its order
/// and with its names, so that a graph from a simplified ONNX file has exactly the operators, the insertion order and
/// the parameters that it quantizes:
/// - One reader per parameter.
/// - Add of a constant [1, C, 1 ...] behind a Conv or ConvTranspose (of any constant behind a Gemm) into the bias that
/// is
///   missing. The operation keeps the name of its own result, not of the Add's.
/// - BatchNormalization into weights, in float32; the operation moves to the end, its parameters are called
///   <operation>_weight and <operation>_bias. Isolated BatchNormalization becomes a depthwise Conv.
/// - Swish, called <producer of x>/Swish (<Sigmoid>/Swish when x is a graph input or the name is taken),
/// RMSNormalization,
///   called <last Mul>_rmsnorm, with an epsilon of 1e-5 where there is none, and LpNormalization, called <Div>_lpnorm,
///   each at the end.
/// - Identity and dead code go.
/// What it does to attributes and operands (Clip, Pad, Slice, Resize, Cast) the frontend has done. Where it would
/// damage or refuse a graph, this leaves the operation as it is. ConvTranspose is decomposed later
/// (decompose_conv_transpose). Records shapes of all variables (UserError naming an input without a shape).
Report format_like_incumbent(Graph& graph);

}  // namespace espq
