#include "passes/simplify/fuse_gelu.h"

#include <cmath>
#include <numbers>

#include "core/graph/match.h"
#include "passes/simplify/affine.h"
#include "passes/simplify/normalization_pattern.h"
#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

/// x of x * x * x.
Variable* cubed_value(Variable& cube) {
  if (Operation* power = producer_of(&cube, "Pow")) return is_scalar(power->input(1), 3) ? power->input(0) : nullptr;
  Operation* product = producer_of(&cube, "Mul");
  for (size_t slot = 0; product && slot < 2; ++slot) {
    Operation* square = product->input(slot)->producer();
    Variable* value = square ? squared_value(*square) : nullptr;
    if (value && value == product->input(1 - slot)) return value;
  }
  return nullptr;
}

/// `value` = x + 0.044715 x^3: what is inside of the Tanh of the approximate form, up to a factor.
bool is_tanh_argument(const Graph& graph, Variable& value, const Variable* x) {
  Operation* sum = producer_of(&value, "Add");
  for (size_t slot = 0; sum && slot < 2; ++slot) {
    if (sum->input(slot) != x) continue;
    const AffineValue cube = affine_value(graph, *sum->input(1 - slot), *sum);
    if (cube.root && cube.offset == 0 && close_to(cube.scale, 0.044715) && cubed_value(*cube.root) == x) return true;
  }
  return false;
}

/// The `approximate` of the Gelu whose odd factor `sigmoid` makes of x; empty when it is another function.
std::string form_of(const Graph& graph, Operation& sigmoid, const Variable* x) {
  const AffineValue argument = affine_value(graph, *sigmoid.input(0), sigmoid);
  if (!argument.root || argument.offset != 0) return {};
  if (sigmoid.type() == "Erf" && argument.root == x && close_to(argument.scale, 1 / std::numbers::sqrt2)) return "none";
  const double scale = std::sqrt(2 * std::numbers::inv_pi);
  if (sigmoid.type() == "Tanh" && close_to(argument.scale, scale) && is_tanh_argument(graph, *argument.root, x))
    return "tanh";
  return {};
}

bool fuse(Graph& graph, Operation& last) {
  const auto product = scaled_product(graph, last);
  if (!product) return false;
  Operation& multiplication = *product->multiplication;
  for (size_t slot = 0; slot < 2; ++slot) {
    const AffineValue value = affine_value(graph, *multiplication.input(slot), multiplication);
    const AffineValue sum = affine_value(graph, *multiplication.input(1 - slot), multiplication);
    Operation* sigmoid = sum.root ? sum.root->producer() : nullptr;
    if (!sigmoid || !sole_consumer(graph, *sum.root) || value.offset != 0) continue;
    if (sigmoid->type() != "Erf" && sigmoid->type() != "Tanh") continue;
    const double scale = product->scale * value.scale;
    if (!close_to(scale * sum.scale, 0.5) || !close_to(scale * sum.offset, 0.5)) continue;
    const std::string form = form_of(graph, *sigmoid, value.root);
    if (form.empty()) continue;
    become(graph, last, "Gelu", {value.root}, {{"approximate", form}});
    return true;
  }
  return false;
}

}  // namespace

PassReport fuse_gelu(Graph& graph) {
  PassReport report{"fuse_gelu"};
  for (Operation* operation : graph.operations()) {
    if (operation->outputs().size() != 1 || !operation->output() || is_dead(graph, *operation)) continue;
    if (fuse(graph, *operation)) report.count("arithmetic around Erf or Tanh became Gelu", operation->name());
  }
  return report;
}

}  // namespace espq
