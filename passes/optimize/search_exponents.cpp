#include "passes/optimize/search_exponents.h"

#include <fmt/format.h>

#include <cmath>
#include <unordered_set>

#include "core/support/progress.h"
#include "passes/optimize/held_out.h"
#include "passes/optimize/option_checks.h"
#include "passes/optimize/reference.h"
#include "passes/optimize/snapshot.h"
#include "passes/quantize/settle.h"

namespace espq {
namespace {

/// Some scale that moves, and a name for it.
struct Group {
  ScaleId scale;
  std::string name;
};

/// Scales of one exponent that slots round to and that follow from no other.
std::vector<Group> groups_of(const Graph& graph) {
  std::vector<Group> groups;
  std::unordered_set<ScaleId> seen;
  const auto add = [&](const SlotQuant& slot, const Variable* tensor) {
    if (!tensor || !slot.quantizes() || slot_exponents(graph, slot).size() != 1) return;
    const ScaleId scale = graph.scales().root(slot.scale);
    if (seen.insert(scale).second) groups.push_back({scale, tensor->name()});
  };
  for (const Operation* operation : graph.topological_order()) {
    if (!operation->quantized()) continue;
    for (size_t i = 0; i < operation->inputs().size(); ++i) add(operation->input_quant()[i], operation->input(i));
    for (size_t i = 0; i < operation->outputs().size(); ++i) add(operation->output_quant()[i], operation->output(i));
  }
  return groups;
}

class Search {
 public:
  Search(Graph& quantized, Reference& reference, const SearchExponentsOptions& options, const Quirks& quirks)
      : graph_(quantized),
        reference_(reference),
        options_(options),
        quirks_(quirks),
        noise_(reference.simulated_error(quantized)) {}

  /// Whether some exponent moved.
  bool sweep(PassReport& report) {
    bool moved = false;
    const std::vector<Group> groups = groups_of(graph_);
    for (size_t i = 0; i < groups.size(); ++i) {
      const int steps = move(groups[i], -1);
      const int all = steps != 0 ? steps : move(groups[i], 1);
      if (all != 0) report.count(fmt::format("exponent moved by {:+}", all), groups[i].name);
      moved |= all != 0;
      report_progress("exponents", i + 1, groups.size());
    }
    return moved;
  }

  double noise() const { return noise_; }

 private:
  /// In one direction, as long as that helps; the exponent's way.
  int move(const Group& group, int step) {
    int way = 0;
    while (try_step(group.scale, step)) way += step;
    return way;
  }

  bool try_step(ScaleId scale, int step) {
    const Snapshot before(graph_);
    const int exponent = graph_.scales().exponents(scale).at(0);
    graph_.scales().set_exponents(scale, {exponent + step});
    settle(graph_, quirks_);
    // What the chip cannot shift to moves back.
    const bool moved = graph_.scales().exponents(scale).at(0) == exponent + step;
    const double now = moved ? reference_.simulated_error(graph_) : noise_;
    if (now < noise_ * (1 - options_.gain)) {
      noise_ = now;
      return true;
    }
    before.restore(graph_);
    return false;
  }

  Graph& graph_;
  Reference& reference_;
  const SearchExponentsOptions& options_;
  const Quirks& quirks_;
  double noise_;
};

}  // namespace

PassReport search_exponents(Graph& quantized, const Graph& teacher, const Dataset& data,
                            const SearchExponentsOptions& options, const Quirks& quirks) {
  require_at_least(static_cast<double>(options.batches), 1, "search_exponents.batches");
  require_at_least(static_cast<double>(options.sweeps), 1, "search_exponents.sweeps");
  require_share(options.gain, "search_exponents.gain");
  PassReport report{"search_exponents"};
  const DividedData parts = hold_out(data);
  Reference judge(teacher, parts.held_out), training(teacher, first_batches(parts.training, options.batches));
  const Snapshot before(quantized);
  const double error = judge.simulated_error(quantized);
  Search search(quantized, training, options, quirks);
  const double first = search.noise();
  for (int64_t sweep = 0; sweep < options.sweeps && search.sweep(report); ++sweep) continue;
  if (!report.changed()) return report;
  const double now = judge.simulated_error(quantized);
  report.note(fmt::format("noise of the outputs {:.2f} dB, was {:.2f} dB; on held-out data {:.2f} dB, was {:.2f} dB",
                          10 * std::log10(search.noise()), 10 * std::log10(first), 10 * std::log10(now),
                          10 * std::log10(error)));
  if (now < error) return report;
  report.note("everything undone: the outputs got no better on held-out data");
  report.changes.clear();
  before.restore(quantized);
  return report;
}

}  // namespace espq
