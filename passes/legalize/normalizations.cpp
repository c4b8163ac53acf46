// Normalizations: the library reads scale and bias as long as what they are for.
#include <ATen/ATen.h>

#include "core/graph/edit.h"
#include "core/ops/arguments.h"
#include "passes/legalize/rewriter.h"

namespace espq {
namespace {

/// A constant that varies along the normalized axes alone, in their full shape; nullopt for others.
std::optional<at::Tensor> full_factors(const Variable& factors, const Shape& normalized) {
  if (!factors.is_parameter()) return std::nullopt;
  at::Tensor value = factors.value();
  while (value.dim() > static_cast<int64_t>(normalized.size())) {
    if (value.size(0) != 1) return std::nullopt;
    value = value.squeeze(0);
  }
  return value.expand(normalized).contiguous();
}

/// What varies along other axes, or is computed, is multiplied and added behind.
std::string factors_behind(Rewriter& rewriter, const Shape& normalized) {
  Operation& operation = rewriter.origin();
  const std::string type = operation.type();
  Variable *scale = operation.input(1), *bias = operation.input(2);
  const at::Tensor ones = at::ones(normalized, at::TensorOptions(scale->dtype()));
  rewriter.graph().truncate_inputs(operation, 2);
  rewriter.graph().set_input(operation, 1, &rewriter.constant("ones", ones));
  // The last of the chain comes first: each stands directly behind the normalization.
  if (bias) rewriter.after("Add", "shifted", {bias});
  rewriter.after("Mul", "scaled", {scale});
  return bias ? type + " with Mul and Add behind" : type + " with Mul behind";
}

std::string normalization(Rewriter& rewriter) {
  Operation& operation = rewriter.origin();
  const Shape shape = rewriter.shape(0);
  const int64_t axis = wrap_axis(operation, operation.int_attribute("axis", -1), static_cast<int64_t>(shape.size()));
  const Shape normalized(shape.begin() + axis, shape.end());
  std::vector<at::Tensor> full;
  bool changed = false;
  for (const size_t slot : {1, 2}) {
    const Variable* factors = operation.input(slot);
    if (!factors) continue;
    auto value = full_factors(*factors, normalized);
    if (!value) {
      // A computed one may be as long as it has to be.
      if (factors->shape() == normalized) {
        full.emplace_back();
        continue;
      }
      return factors_behind(rewriter, normalized);
    }
    changed |= *factors->shape() != normalized;
    full.push_back(*value);
  }
  if (!changed) return {};
  for (size_t i = 0; i < full.size(); ++i)
    if (full[i].defined())
      set_constant(rewriter.graph(), operation, i + 1, full[i], operation.name() + (i == 0 ? "_scale" : "_bias"));
  return "scale of " + operation.type() + " stated per element";
}

}  // namespace

std::vector<RewriteRule> normalization_rewrites() {
  return {{"LayerNormalization", normalization}, {"RMSNormalization", normalization}};
}

}  // namespace espq
