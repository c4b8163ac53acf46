#include "passes/run.h"

#include <spdlog/spdlog.h>

#include <atomic>
#include <chrono>

#include "core/ops/operator.h"
#include "core/support/error.h"

namespace espq {
namespace {

#ifdef NDEBUG
std::atomic<bool> verifies{false};
#else
std::atomic<bool> verifies{true};
#endif

void check(const Graph& graph, const PassReport& report, uint64_t revision_before, Verify when) {
  internal_check(!report.changed() || graph.revision() != revision_before,
                 "pass " + report.pass + " reports changes of a graph that it left alone: " + to_text(report));
  if (when == Verify::Later || !verify_passes()) return;
  try {
    verify(graph);
  } catch (const InternalError& error) {
    throw InternalError("after pass " + report.pass + ": " + error.what());
  }
}

}  // namespace

void set_verify_passes(bool wanted) { verifies = wanted; }
bool verify_passes() { return verifies; }

PassReport run_pass(Graph& graph, const std::function<PassReport(Graph&)>& pass, Verify when) {
  const auto start = std::chrono::steady_clock::now();
  const uint64_t revision = graph.revision();
  PassReport report = pass(graph);
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  check(graph, report, revision, when);
  return report;
}

bool PassSequence::operator()(const std::function<PassReport(Graph&)>& pass) {
  return keep(run_pass(graph_, pass, when_));
}

bool PassSequence::operator()(const std::function<Report(Graph&)>& passes) {
  bool changed = false;
  for (PassReport& pass : passes(graph_).passes) changed |= keep(std::move(pass));
  return changed;
}

bool PassSequence::keep(PassReport pass) {
  spdlog::log(pass.changed() ? spdlog::level::info : spdlog::level::debug, "{}", to_text(pass));
  for (const std::string& warning : pass.warnings) spdlog::warn("{}", warning);
  report_.add(std::move(pass));
  return report_.passes.back().changed();
}

}  // namespace espq
