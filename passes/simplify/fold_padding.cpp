#include "passes/simplify/fold_padding.h"

#include "core/graph/match.h"
#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

/// Zeros around the spatial axes as [begin..., end...]; nullopt when the Pad does anything else.
std::optional<Shape> spatial_zeros(const Operation& pad, int64_t rank) {
  if (pad.string_attribute("mode", "constant") != "constant") return std::nullopt;
  if (pad.input(2) && scalar_constant(pad.input(2)) != 0.0) return std::nullopt;
  const auto pads = integer_constant(pad.input(1));
  if (!pads) return std::nullopt;
  Shape axes;
  if (pad.input(3)) {
    const auto given = integer_constant(pad.input(3));
    if (!given) return std::nullopt;
    axes = *given;
  } else {
    for (int64_t axis = 0; axis < rank; ++axis) axes.push_back(axis);
  }
  if (pads->size() != 2 * axes.size()) return std::nullopt;
  Shape spatial(2 * (rank - 2), 0);
  for (size_t i = 0; i < axes.size(); ++i) {
    const int64_t axis = axes[i] < 0 ? axes[i] + rank : axes[i];
    const int64_t begin = (*pads)[i], end = (*pads)[i + axes.size()];
    if (begin < 0 || end < 0 || axis < 0 || axis >= rank) return std::nullopt;
    if (axis < 2) {
      if (begin != 0 || end != 0) return std::nullopt;
      continue;
    }
    spatial[axis - 2] += begin;
    spatial[axis - 2 + rank - 2] += end;
  }
  return spatial;
}

}  // namespace

PassReport fold_padding(Graph& graph) {
  PassReport report{"fold_padding"};
  for (Operation* operation : graph.operations()) {
    if (operation->type() != "Conv" || !operation->input(1)) continue;
    Operation* pad = producer_of(operation->input(0), "Pad");
    const auto rank = rank_of(operation->input(1));
    const std::string automatic = operation->string_attribute("auto_pad", "NOTSET");
    if (!pad || !rank || *rank < 3 || (automatic != "NOTSET" && automatic != "VALID")) continue;
    if (!pad->input(0) || pad->input(0)->is_parameter()) continue;
    const auto zeros = spatial_zeros(*pad, *rank);
    if (!zeros) continue;
    Shape pads = operation->ints_attribute("pads", Shape(zeros->size(), 0));
    if (automatic == "VALID") pads.assign(zeros->size(), 0);
    for (size_t i = 0; i < zeros->size(); ++i) pads[i] += (*zeros)[i];
    operation->set_attribute("pads", pads);
    operation->set_attribute("auto_pad", std::string("NOTSET"));
    graph.set_input(*operation, 0, pad->input(0));
    report.count("Pad folded into Conv", operation->name());
  }
  return report;
}

}  // namespace espq
