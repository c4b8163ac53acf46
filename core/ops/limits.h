#pragma once
#include <optional>

#include "core/ops/operator.h"

// What limits of several families look at.
namespace espq {

/// Shape of a tensor in the model's order, also in a chip graph; nullopt when it is not known.
std::optional<Shape> model_shape(const Variable* value);
/// Exponent of a tensor of a chip graph; nullopt for floats, and before lowering.
std::optional<int> stored_exponent(const Variable* value);

/// Convolutions and pools run over one or two axes.
extern const Limit kSpatialAxes;

}  // namespace espq
