#pragma once
#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace espq {

/// What one pass did: counted lines such as "BatchNormalization folded into Conv: 12".
struct PassReport {
  std::string pass = {};
  std::map<std::string, int64_t> changes = {};
  double seconds = 0;
  std::vector<std::string> warnings = {};  ///< what the user should know: the result is worse than expected

  void count(std::string change, int64_t times = 1) {
    if (times) changes[std::move(change)] += times;
  }
  bool changed() const { return !changes.empty(); }
  int64_t total() const {
    int64_t sum = 0;
    for (const auto& [change, times] : changes) sum += times;
    return sum;
  }
  /// Adds what another run of the same pass did.
  void merge(const PassReport& other) {
    for (const auto& [change, times] : other.changes) changes[change] += times;
    seconds += other.seconds;
    warnings.insert(warnings.end(), other.warnings.begin(), other.warnings.end());
  }
};

/// "pass (0.012 s): change x 3, other change"
inline std::string to_text(const PassReport& report) {
  std::string text = fmt::format("{} ({:.3f} s):", report.pass, report.seconds);
  if (!report.changed()) return text + " nothing to do";
  const char* separator = " ";
  for (const auto& [change, times] : report.changes) {
    text += separator + (times == 1 ? change : fmt::format("{} x {}", change, times));
    separator = ", ";
  }
  return text;
}

/// Runs a pass (anything that returns a PassReport) and fills in its time.
template <typename Pass>
PassReport timed(Pass&& pass) {
  const auto start = std::chrono::steady_clock::now();
  PassReport report = pass();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace espq
