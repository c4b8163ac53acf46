#include "passes/simplify/fuse_lp_normalization.h"

#include "core/graph/match.h"
#include "passes/simplify/normalization_pattern.h"
#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

/// The value that Clip or Max bounds from below, when the bound is at most `largest`.
std::pair<Operation*, size_t> unbounded(const Graph& graph, Operation& reader, size_t slot, double largest) {
  Operation* none = nullptr;
  if (Operation* clip = private_producer_of(graph, reader, slot, "Clip")) {
    const auto low = scalar_constant(clip->input(1));
    return low && *low >= 0 && *low <= largest && !clip->input(2) ? std::pair{clip, size_t{0}}
                                                                  : std::pair{none, size_t{0}};
  }
  if (Operation* maximum = private_producer_of(graph, reader, slot, "Max")) {
    const auto constant = constant_operand(*maximum);
    const auto low = constant ? scalar_constant(maximum->input(*constant)) : std::nullopt;
    return low && *low >= 0 && *low <= largest ? std::pair{maximum, 1 - *constant} : std::pair{none, size_t{0}};
  }
  return {none, 0};
}

}  // namespace

bool fuse_lp_normalization(Graph& graph, Operation& division, const FuseLpNormalizationOptions& options) {
  if (division.type() != "Div" || division.inputs().size() != 2) return false;
  Operation* reader = &division;
  size_t slot = 1;
  if (Operation* expand = private_producer_of(graph, division, 1, "Expand")) {
    if (division.output()->shape() != division.input(0)->shape()) return false;
    reader = expand;
    slot = 0;
  }
  const auto [bound, operand] = unbounded(graph, *reader, slot, options.largest_bound);
  if (!bound) return false;
  Operation* norm = private_producer_of(graph, *bound, operand, "ReduceL2");
  if (!norm) norm = private_producer_of(graph, *bound, operand, "ReduceL1");
  if (!norm || norm->input(0) != division.input(0)) return false;
  const auto axes = kept_reduction_axes(*norm);
  if (!axes || axes->size() != 1) return false;
  const int64_t order = norm->type() == "ReduceL2" ? 2 : 1;
  int64_t axis = axes->front();
  const auto given = integer_constant(norm->input(1));
  if (given && given->front() < 0) axis = given->front();  // the way it is written in the file
  become(graph, division, "LpNormalization", {division.input(0)}, {{"axis", axis}, {"p", order}});
  return true;
}

PassReport fuse_lp_normalization(Graph& graph, const FuseLpNormalizationOptions& options) {
  PassReport report{"fuse_lp_normalization"};
  for (Operation* operation : graph.operations())
    if (!is_dead(graph, *operation) && fuse_lp_normalization(graph, *operation, options))
      report.count("arithmetic became LpNormalization", operation->name());
  return report;
}

}  // namespace espq
