#pragma once
#include <limits>
#include <optional>

#include "core/graph/graph.h"

namespace espq {

/// clamp(source, low, high)
struct Bounds {
  static constexpr double kInfinity = std::numeric_limits<double>::infinity();
  Variable* source = nullptr;
  double low = -kInfinity, high = kInfinity;
};

/// Reads Relu, Clip, and Min or Max with one constant number; nullopt for other operations and bounds that are
/// computed.
std::optional<Bounds> bounds_of(Operation& operation);

/// The bounds of one clamp behind another, from the source of the first; nullopt where that leaves less than a range.
std::optional<Bounds> joined(const Bounds& first, const Bounds& second);

}  // namespace espq
