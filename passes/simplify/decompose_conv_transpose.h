#pragma once
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

/// There is nothing to choose.
struct DecomposeConvTransposeOptions {};

template <class Fields>
void describe(Fields&, DecomposeConvTransposeOptions&) {}

/// The chip has no transposed convolution: ConvTranspose becomes InsertZeros (when a stride is not 1) and Conv.
/// Sample i moves to position i * stride, output_padding zeros follow; the filter is flipped along its spatial axes and
/// its in and out channels change places within each group; the Conv pads by d (k - 1) - p in front and behind. Where p
/// is larger, a Slice crops the difference. auto_pad and output_shape are resolved to p first (total padding s (i - 1)
/// + output_padding + d (k - 1) + 1 - output; the larger half behind for SAME_UPPER, in front otherwise). The Conv
/// keeps the operation's name and place; InsertZeros and Slice stand at the end of the insertion order, as esp-ppq
/// 1.3.12 has them. Refuses a filter that is not constant; throws UserError when auto_pad needs a shape that is not
/// known.
PassReport decompose_conv_transpose(Graph& graph);

}  // namespace espq
