#include "passes/legalize/legalize.h"

#include <set>

#include "core/ops/operator.h"
#include "core/support/error.h"
#include "passes/legalize/rewriter.h"
#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

const std::vector<RewriteRule>& all_rules() {
  static const std::vector<RewriteRule> rules = [] {
    std::vector<RewriteRule> all;
    for (const auto family :
         {convolution_rewrites, pooling_rewrites, resize_rewrites, movement_rewrites, arithmetic_rewrites,
          recurrent_rewrites, cell_rewrites, reduction_rewrites, normalization_rewrites})
      for (const RewriteRule& rule : family()) all.push_back(rule);
    return all;
  }();
  return rules;
}

/// A rewrite leaves a form that runs or that another rule knows; more steps than this mean that two undo each other.
constexpr int kMaxRounds = 20;

/// The change that a rule made to the operation; empty when none did.
std::string rewrite(Graph& graph, Operation& operation, bool refused, int bits, const LegalizeOptions& options,
                    Origins* origins, PassReport& report) {
  for (const RewriteRule& rule : all_rules()) {
    if (rule.type != operation.type() || !(refused || rule.always)) continue;
    const std::string name = operation.name();  // the operation may be gone afterwards
    Rewriter rewriter(graph, operation, origins, bits, options);
    std::string change = rule.rewrite(rewriter);
    if (change.empty()) continue;
    report.count(change, name);
    return change;
  }
  return {};
}

}  // namespace

std::optional<Refusal> refusal_of(const Operation& operation, const Deployment& deployment) {
  internal_check(operation.width().has_value(), "'" + operation.name() + "' has no width");
  if (becomes_table(operation)) return std::nullopt;
  return refuses(operation, deployment, *operation.width());
}

PassReport legalize(Graph& graph, const Deployment& deployment, const LegalizeOptions& options, Origins* origins,
                    int bits) {
  PassReport report{"legalize"};
  bool changed = true;
  std::set<std::pair<std::string, std::string>> made;  // a change that is made again did not help
  for (int round = 1; changed; ++round) {
    internal_check(round <= kMaxRounds, "rewrites for the chip do not come to rest");
    changed = false;
    std::vector<std::string> names;  // handles would not outlive their operations
    for (const Operation* operation : graph.topological_order()) names.push_back(operation->name());
    for (const std::string& name : names) {
      Operation* operation = graph.find_operation(name);
      if (!operation || is_dead(graph, *operation)) continue;
      const bool refused = refusal_of(*operation, deployment).has_value();
      const std::string change = rewrite(graph, *operation, refused, bits, options, origins, report);
      changed |= !change.empty() && made.emplace(name, change).second;
    }
  }
  return report;
}

namespace {

/// Forms that the library misreads may stand for the sake of another tool's file, kernels that the application has are
/// no matter of the library; nothing excuses what a file cannot say.
bool is_excused(const Refusal& refusal, const WidthOptions& widths, const Quirks& quirks) {
  if (refusal.kind == Refusal::Kind::Kernel) return !widths.check_kernels;
  return refusal.kind == Refusal::Kind::Form && quirks.misread_forms;
}

}  // namespace

std::vector<Refused> refused_operations(const Graph& graph, const Deployment& deployment, const WidthOptions& widths,
                                        const Quirks& quirks) {
  std::vector<Refused> refused;
  for (const Operation* operation : graph.topological_order())
    if (const auto refusal = refusal_of(*operation, deployment); refusal && !is_excused(*refusal, widths, quirks))
      refused.push_back({operation->type(), operation->name(), *refusal});
  return refused;
}

PassReport require_runs(const Graph& graph, const Deployment& deployment, const WidthOptions& widths,
                        const Quirks& quirks) {
  PassReport report{"require_runs"};
  const std::vector<Refused> refused = refused_operations(graph, deployment, widths, quirks);
  report.note("operation", static_cast<int64_t>(graph.operation_count()));
  if (refused.empty()) return report;
  std::string list;
  for (const Refused& each : refused)
    list += fmt::format("{}{} '{}': {}; {}", list.empty() ? "" : ". ", each.type, each.name, each.refusal.why,
                        each.refusal.remedy);
  user_error("{} operation{} cannot run on {}. {}", refused.size(), refused.size() == 1 ? "" : "s",
             deployment.target.name, list);
}

}  // namespace espq
