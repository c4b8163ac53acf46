#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace espq {

/// What a pass did, or saw, so many times.
struct ReportEntry {
  std::string what;   ///< "BatchNormalization folded into Conv"
  std::string where;  ///< name of the operation; empty where that would tell nothing
  int64_t count = 1;
};

/// What one pass did to a graph.
struct PassReport {
  std::string pass;
  std::vector<ReportEntry> changes = {};   ///< of the graph
  std::vector<ReportEntry> notes = {};     ///< what the pass looked at or measured, which changed nothing
  std::vector<std::string> warnings = {};  ///< what the user should know: the result is worse than expected
  double seconds = 0;
  int runs = 1;

  /// The graph was changed.
  void count(std::string what, std::string where, int64_t times = 1);
  void count(std::string what, int64_t times = 1) { count(std::move(what), {}, times); }
  /// The pass looked at something and left it as it is.
  void note(std::string what, int64_t times = 1);

  bool changed() const { return !changes.empty(); }
  /// Changes of all kinds.
  int64_t total() const;
  /// How often `what` was counted or noted.
  int64_t times(std::string_view what) const;
  /// Adds what another run of the same pass did.
  void merge(const PassReport& other);
};

/// What a sequence of passes did, in the order in which they ran.
struct Report {
  std::vector<PassReport> passes;

  void add(PassReport pass) { passes.push_back(std::move(pass)); }
  /// The same, but runs of one pass become one entry.
  void merge(const PassReport& pass);
  void append(Report other);

  bool changed() const;
  double seconds() const;
  std::vector<std::string> warnings() const;
  /// The first run of a pass; nullptr when it did not run.
  const PassReport* find(std::string_view pass) const;
};

/// "pass (0.012 s): change x 3 (first, second, ...), other change; note x 5"
std::string to_text(const PassReport& report);
/// A line per pass that changed something.
std::string to_text(const Report& report);

}  // namespace espq
