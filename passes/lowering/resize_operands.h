#pragma once
#include "core/graph/graph.h"

namespace espq::lowering {

/// The chip reads `scales` and `sizes` of a Resize for all axes, in the model's order: values that are given for the
/// attribute `axes` only are filled up and an aspect ratio policy is worked out. `input_shape` is in the model's order.
void complete_resize_operands(Operation& resize, const Shape& input_shape);

}  // namespace espq::lowering
