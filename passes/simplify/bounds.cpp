#include "passes/simplify/bounds.h"

#include <algorithm>

#include "core/graph/match.h"

namespace espq {
namespace {

/// Exporters write the largest float for a bound that is none.
double bound(double value) {
  if (value >= std::numeric_limits<float>::max()) return Bounds::kInfinity;
  return value <= std::numeric_limits<float>::lowest() ? -Bounds::kInfinity : value;
}

std::optional<Bounds> clip_bounds(Operation& clip) {
  Bounds bounds{clip.input(0)};
  for (size_t slot : {1, 2}) {
    if (!clip.input(slot)) continue;
    const auto value = scalar_constant(clip.input(slot));
    if (!value) return std::nullopt;
    (slot == 1 ? bounds.low : bounds.high) = bound(*value);
  }
  return bounds;
}

}  // namespace

std::optional<Bounds> bounds_of(Operation& operation) {
  if (operation.type() == "Relu") return Bounds{operation.input(0), 0};
  if (operation.type() == "Clip") return clip_bounds(operation);
  if (operation.type() != "Min" && operation.type() != "Max") return std::nullopt;
  const auto slot = constant_operand(operation);
  const auto value = slot ? scalar_constant(operation.input(*slot)) : std::nullopt;
  if (!value) return std::nullopt;
  // One element of several axes may give the result more axes than the other operand has.
  const auto rank = rank_of(operation.input(1 - *slot));
  const int64_t axes = operation.input(*slot)->value().dim();
  if (axes > 0 && (!rank || axes > *rank)) return std::nullopt;
  return operation.type() == "Min" ? Bounds{operation.input(1 - *slot), -Bounds::kInfinity, bound(*value)}
                                   : Bounds{operation.input(1 - *slot), bound(*value)};
}

std::optional<Bounds> joined(const Bounds& first, const Bounds& second) {
  const Bounds both{first.source, std::max(first.low, second.low), std::min(first.high, second.high)};
  return both.low < both.high ? std::optional(both) : std::nullopt;
}

}  // namespace espq
