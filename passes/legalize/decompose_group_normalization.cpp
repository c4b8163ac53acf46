#include "passes/legalize/decompose_group_normalization.h"

#include <ATen/ATen.h>

#include "core/graph/match.h"
#include "passes/legalize/rewriter.h"
#include "passes/simplify/fold_batch_normalization.h"
#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

/// One number per channel; opset 18 has one per group.
at::Tensor per_channel(const at::Tensor& values, int64_t channels) {
  return values.numel() == channels ? values.flatten() : values.flatten().repeat_interleave(channels / values.numel());
}

bool decompose(Graph& graph, Operation& operation, Origins* origins) {
  const Variable *scale = operation.input(1), *bias = operation.input(2);
  if (!scale || !bias || !scale->is_parameter() || !bias->is_parameter()) return false;
  if (!operation.input(0)->shape() || operation.input(0)->shape()->size() < 2) return false;
  const Shape shape = *operation.input(0)->shape();
  const int64_t channels = shape[1];
  const int64_t groups = operation.type() == "InstanceNormalization" ? channels : operation.int_attribute("num_groups");
  if (groups <= 0 || channels % groups != 0) return false;
  const float epsilon = operation.float_attribute("epsilon");
  const at::Tensor factors = per_channel(scale->value(), channels), offsets = per_channel(bias->value(), channels);
  const bool plain = factors.eq(1).all().item<bool>() && offsets.eq(0).all().item<bool>();

  Rewriter rewriter(graph, operation, origins);
  const int64_t length = c10::multiply_integers(shape) / (shape[0] * groups);
  Variable& rows = rewriter.add("Reshape", "rows",
                                {operation.input(0), &rewriter.constant("rows_shape", {shape[0], groups, length})});
  Variable& normalized = rewriter.add(
      "LayerNormalization", "normalized",
      {&rows, &rewriter.constant("ones", at::ones({length})), &rewriter.constant("zeros", at::zeros({length}))},
      {{"axis", int64_t{-1}}, {"epsilon", epsilon}});
  Variable& back = rewriter.constant("shape", shape);
  if (plain) {
    rewriter.become("Reshape", {&normalized, &back});
    return true;
  }
  Variable& value = rewriter.add("Reshape", "back", {&normalized, &back});
  Variable &weight = rewriter.constant("factors", factors), &offset = rewriter.constant("offsets", offsets);
  Variable& mean = rewriter.constant("mean", at::zeros({channels}));
  Variable& variance = rewriter.constant("variance", at::ones({channels}));
  rewriter.become("BatchNormalization", {&value, &weight, &offset, &mean, &variance}, {{"epsilon", 0.0F}});
  fold_batch_normalization(graph, operation, {});
  return true;
}

}  // namespace

PassReport decompose_group_normalization(Graph& graph, Origins* origins) {
  PassReport report{"decompose_group_normalization"};
  for (Operation* operation : graph.topological_order()) {
    const std::string type = operation->type(), name = operation->name();
    if (type != "GroupNormalization" && type != "InstanceNormalization") continue;
    if (is_dead(graph, *operation) || !decompose(graph, *operation, origins)) continue;
    report.count(type + " became LayerNormalization of rows", name);
  }
  return report;
}

}  // namespace espq
