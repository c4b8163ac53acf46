#include "passes/simplify/fuse_gelu.h"

#include <numbers>

#include "core/graph/match.h"
#include "passes/simplify/affine.h"
#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

bool fuse(Graph& graph, Operation& last) {
  const auto product = scaled_product(graph, last);
  if (!product) return false;
  Operation& multiplication = *product->multiplication;
  for (size_t slot = 0; slot < 2; ++slot) {
    const AffineValue value = affine_value(graph, *multiplication.input(slot), multiplication);
    const AffineValue sum = affine_value(graph, *multiplication.input(1 - slot), multiplication);
    Operation* erf = producer_of(sum.root, "Erf");
    if (!erf || !sole_consumer(graph, *sum.root) || value.offset != 0) continue;
    const AffineValue argument = affine_value(graph, *erf->input(0), *erf);
    if (argument.root != value.root || argument.offset != 0) continue;
    const double scale = product->scale * value.scale;
    if (!close_to(argument.scale, 1 / std::numbers::sqrt2)) continue;
    if (!close_to(scale * sum.scale, 0.5) || !close_to(scale * sum.offset, 0.5)) continue;
    become(graph, last, "Gelu", {value.root});
    return true;
  }
  return false;
}

}  // namespace

PassReport fuse_gelu(Graph& graph) {
  PassReport report{"fuse_gelu"};
  for (Operation* operation : graph.operations()) {
    if (operation->outputs().size() != 1 || !operation->output() || is_dead(graph, *operation)) continue;
    if (fuse(graph, *operation)) report.count("arithmetic around Erf became Gelu", operation->name());
  }
  return report;
}

}  // namespace espq
