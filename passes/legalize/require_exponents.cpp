#include "passes/legalize/require_exponents.h"

#include "core/support/error.h"

namespace espq {

PassReport require_exponents(const Graph& chip, const Deployment& deployment, const Quirks& quirks) {
  PassReport report{"require_exponents"};
  report.note("operation", static_cast<int64_t>(chip.operation_count()));
  if (quirks.misread_forms) return report;
  std::string list;
  for (const Operation* operation : chip.topological_order()) {
    if (quirks.requantize_loses_tail && definition_of(*operation).quantization.converts) continue;
    const auto refusal = refuses(*operation, deployment, operation->chip().kernels.value_or(Width::Float));
    if (refusal && refusal->kind == Refusal::Kind::Form)
      list += fmt::format("{}{} '{}': {}; {}", list.empty() ? "" : ". ", operation->type(), operation->name(),
                          refusal->why, refusal->remedy);
  }
  if (!list.empty())
    user_error("{} does not compute with numbers as the calibration data give them. {}", deployment.target.name, list);
  return report;
}

}  // namespace espq
