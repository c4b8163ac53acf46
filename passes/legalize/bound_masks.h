#pragma once
#include "core/data/dataset.h"
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

/// Masks of attention: constants that an Add in front of a Softmax brings in, -inf or some large negative number where
/// nothing may be seen. No grid holds the one, and the other leaves nothing of it to the scores. Elements of such a
/// constant are raised to the lowest number that still means "nothing": on the data, all that a row leaves out sums up
/// to less than a quarter of a step of the Softmax's result (of float32 rounding where the Softmax has no width).
/// Leaves constants that are higher, rows that leave out everything, and masks that are computed. Between Add and
/// Softmax may stand operations that only change the shape. Runs the float graph on up to `batches` batches; changes
/// nothing else, and so belongs in front of create_slots.
PassReport bound_masks(Graph& graph, const Dataset& data, int64_t batches = 32);

}  // namespace espq
