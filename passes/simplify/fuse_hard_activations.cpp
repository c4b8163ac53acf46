#include "passes/simplify/fuse_hard_activations.h"

#include <cmath>

#include "core/graph/match.h"
#include "passes/simplify/affine.h"
#include "passes/simplify/bounds.h"
#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

/// clip(alpha * root + beta, low, high)
struct Ramp {
  Variable* root = nullptr;
  double alpha = 1, beta = 0, low = 0, high = 1;
};

/// The ramp in `outer`, whose root must be what a bounding operation computes.
std::optional<Ramp> ramp_under(const Graph& graph, const AffineValue& outer) {
  Operation* operation = outer.root->producer();
  if (!operation || outer.scale <= 0) return std::nullopt;
  Ramp ramp;
  if (operation->type() == "HardSigmoid") {
    ramp = {operation->input(0), operation->float_attribute("alpha", 0.2F), operation->float_attribute("beta", 0.5F)};
  } else {
    auto bounds = bounds_of(*operation);
    if (!bounds) return std::nullopt;
    // Min(Max(x, low), high) and the like: one range inside another.
    while (bounds->source->producer() && sole_consumer(graph, *bounds->source)) {
      const auto inner = bounds_of(*bounds->source->producer());
      if (!inner) break;
      operation = bounds->source->producer();
      bounds = joined(*inner, *bounds);
      if (!bounds) return std::nullopt;
    }
    if (!(bounds->low < bounds->high)) return std::nullopt;
    const AffineValue inside = affine_value(graph, *bounds->source, *operation);
    ramp = {inside.root, inside.scale, inside.offset, bounds->low, bounds->high};
  }
  const auto map = [&](double value) { return outer.scale * value + outer.offset; };
  return Ramp{ramp.root, outer.scale * ramp.alpha, map(ramp.beta), map(ramp.low), map(ramp.high)};
}

bool fuse_hard_sigmoid(Graph& graph, Operation& last) {
  const AffineValue outer = affine_result(graph, last);
  if (last.type() == "HardSigmoid") return false;
  if (outer.root != last.output() && !sole_consumer(graph, *outer.root)) return false;
  const auto ramp = ramp_under(graph, outer);
  if (!ramp || ramp->alpha <= 0 || std::abs(ramp->low) > 1e-6) return false;
  if (!close_to(ramp->high, 1) || !close_to(ramp->beta, 0.5)) return false;
  become(graph, last, "HardSigmoid", {ramp->root},
         {{"alpha", static_cast<float>(ramp->alpha)}, {"beta", static_cast<float>(ramp->beta)}});
  return true;
}

bool fuse_hard_swish(Graph& graph, Operation& last) {
  const auto product = scaled_product(graph, last);
  if (!product) return false;
  Operation& multiplication = *product->multiplication;
  for (size_t slot = 0; slot < 2; ++slot) {
    const AffineValue value = affine_value(graph, *multiplication.input(slot), multiplication);
    const AffineValue outer = affine_value(graph, *multiplication.input(1 - slot), multiplication);
    if (value.offset != 0 || !sole_consumer(graph, *outer.root)) continue;
    const auto ramp = ramp_under(graph, outer);
    if (!ramp || ramp->root != value.root || std::abs(ramp->low) > 1e-6) continue;
    const double height = ramp->high;
    if (!close_to(product->scale * value.scale * height, 1)) continue;
    if (!close_to(ramp->alpha / height, 1.0 / 6) || !close_to(ramp->beta / height, 0.5)) continue;
    become(graph, last, "HardSwish", {value.root});
    return true;
  }
  return false;
}

}  // namespace

PassReport fuse_hard_activations(Graph& graph) {
  PassReport report{"fuse_hard_activations"};
  for (Operation* operation : graph.operations()) {
    if (operation->outputs().size() != 1 || !operation->output() || is_dead(graph, *operation)) continue;
    if (fuse_hard_sigmoid(graph, *operation)) report.count("ramp became HardSigmoid", operation->name());
    if (fuse_hard_swish(graph, *operation)) report.count("arithmetic became HardSwish", operation->name());
  }
  return report;
}

}  // namespace espq
