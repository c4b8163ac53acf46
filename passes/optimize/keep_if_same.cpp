#include "passes/optimize/keep_if_same.h"

#include <fmt/format.h>

#include <cmath>

namespace espq {

void keep_if_same(Graph& graph, Graph changed, Reference& before, PassReport& report) {
  const double difference = before.float_error(changed);
  if (difference > kSameFunction) {
    report.changes.clear();
    report.note(fmt::format("undone, the float outputs changed by {:.0f} dB", 10 * std::log10(difference)));
    return;
  }
  graph = std::move(changed);
  graph.touch();
}

}  // namespace espq
