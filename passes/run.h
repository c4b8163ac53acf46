#pragma once
#include <functional>

#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

/// Whether verify() looks at the graph behind every pass, so that a pass that breaks it fails there and not three
/// passes later. Debug builds and the tests do it.
void set_verify_passes(bool wanted);
bool verify_passes();

/// When to look: between two stages a graph is neither, and there is nothing to verify until it has arrived.
enum class Verify { Behind, Later };

/// The one place where passes run. Fills in the time and the runs, and checks that a pass that reports a change made
/// one; with verify_passes() also that the graph is whole (InternalError naming the pass otherwise).
PassReport run_pass(Graph& graph, const std::function<PassReport(Graph&)>& pass, Verify when = Verify::Behind);

/// A page of passes over one graph: each is run, logged with its time and what it changed (spdlog: info, debug when it
/// changed nothing, its warnings as such), and kept in the report.
class PassSequence {
 public:
  PassSequence(Graph& graph, Report& report, Verify when = Verify::Behind)
      : graph_(graph), report_(report), when_(when) {}
  /// Returns whether the pass changed the graph.
  bool operator()(const std::function<PassReport(Graph&)>& pass);
  /// The same for a pass that is itself a sequence of passes.
  bool operator()(const std::function<Report(Graph&)>& passes);

 private:
  bool keep(PassReport pass);

  Graph& graph_;
  Report& report_;
  Verify when_;
};

}  // namespace espq
