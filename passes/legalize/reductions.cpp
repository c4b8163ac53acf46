// Reduce operators: which axes the chip library sees, and what it leaves of none.
#include <algorithm>

#include "core/ops/reduce.h"
#include "passes/legalize/rewriter.h"

namespace espq {
namespace {

/// Of one element it is what was there; squares and absolute values are more.
bool is_identity_without_axes(std::string_view type) {
  return type == "ReduceSum" || type == "ReduceMean" || type == "ReduceMax" || type == "ReduceMin" ||
         type == "ReduceProd" || type == "ReduceLogSumExp";
}

/// Reduced axes brought behind the others.
void gather_axes(Rewriter& rewriter, std::vector<int64_t>& axes) {
  const auto rank = static_cast<int64_t>(rewriter.shape(0).size());
  Shape order;
  for (int64_t axis = 0; axis < rank; ++axis)
    if (std::find(axes.begin(), axes.end(), axis) == axes.end()) order.push_back(axis);
  const auto kept = static_cast<int64_t>(order.size());
  order.insert(order.end(), axes.begin(), axes.end());
  rewriter.before(0, "Transpose", "ordered", {}, {{"perm", order}});
  for (size_t i = 0; i < axes.size(); ++i) axes[i] = kept + static_cast<int64_t>(i);
}

std::string reduce(Rewriter& rewriter) {
  Operation& operation = rewriter.origin();
  const std::string type = operation.type();
  auto axes = reduced_axes(operation);
  const auto result = operation.output()->shape();
  if (!axes || !result) return {};
  if (axes->empty()) {
    if (!is_identity_without_axes(type)) return {};
    rewriter.become("Identity", {operation.input(0)});
    return type + " of no axis became Identity";
  }
  const bool interleaved = has_too_many_groups(*axes, static_cast<int64_t>(rewriter.shape(0).size()));
  if (interleaved) gather_axes(rewriter, *axes);
  const bool scalar = result->empty();
  const bool keeps = operation.int_attribute("keepdims", 1) != 0;
  Variable& stated = rewriter.constant("axes", *axes);
  rewriter.become(type, {operation.input(0), &stated}, {{"keepdims", int64_t{scalar || (keeps && !interleaved)}}});
  if (scalar || (keeps && interleaved))
    rewriter.after("Reshape", "back", {&rewriter.constant("shape", scalar ? Shape{1} : *result)});
  return scalar        ? type + " keeps one axis"
         : interleaved ? type + " of neighbouring axes"
                       : "axes of " + type + " stated";
}

}  // namespace

std::vector<RewriteRule> reduction_rewrites() {
  std::vector<RewriteRule> rules;
  for (const std::string_view type : {"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2",
                                      "ReduceSumSquare", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp"})
    rules.push_back({type, reduce});
  return rules;
}

}  // namespace espq
