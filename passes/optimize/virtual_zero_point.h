#pragma once
#include "core/data/dataset.h"
#include "core/graph/graph.h"
#include "passes/quirks.h"
#include "passes/report.h"

namespace espq {

struct VirtualZeroPointOptions {
  int64_t batches = 8;  ///< of the held-out data that decide
  /// Tensors that layers pad with zeros are shifted, too: a Pad of -z stands in front of those layers then.
  bool pads = true;
  double pad_gain = 0.1;  ///< dB of the outputs' noise that such a tensor has to bring
};

template <class Fields>
void describe(Fields& fields, VirtualZeroPointOptions& options) {
  fields("batches", options.batches);
  fields("pads", options.pads);
  fields("pad_gain", options.pad_gain);
}

/// A tensor that is never negative uses half of a signed grid. Where only layers read it, it is stored less
/// z = 128 * 2^e on a grid that is twice as fine: the layer in front subtracts z by its bias, saturation at the lowest
/// code is the Relu, and the layers behind add z times the sum of their weights to their biases, which is an integer of
/// their sums. All 256 codes are used; the file is an ordinary one, with one operation less per Relu that was not fused
/// and one more, a Pad of -z, per Conv behind that pads. Readers may stand behind operations that only move values
/// (Reshape, MaxPool). Takes an 8-bit graph at rest. Tensor by tensor, from the front, it is kept where the outputs
/// come nearer to those of `teacher` on data that were held out; biases behind take back by how much the mean of the
/// tensor has moved with its grid. The Relu becomes a Clip from -z in the quantized graph, whose values there are
/// shifted; the same happens to `teacher`, whose outputs stay, so that tensors of both can be compared. settle()
/// follows. Run it last: with shifted data weights and biases are harder to train. Throws UserError on options out of
/// range.
PassReport virtual_zero_point(Graph& quantized, Graph& teacher, const Dataset& data,
                              const VirtualZeroPointOptions& options = {}, const Quirks& quirks = {});

}  // namespace espq
