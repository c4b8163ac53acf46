#pragma once
#include <cstddef>
#include <functional>
#include <string_view>

namespace espq {

/// What long steps call: `done` of `total` units of the step are finished.
using ProgressFunction = std::function<void(std::string_view step, size_t done, size_t total)>;

/// One listener for the process; an empty function = nobody listens (the default).
void set_progress_listener(ProgressFunction listener);
/// Threads are heard one after the other.
void report_progress(std::string_view step, size_t done, size_t total);

/// While it lives what its thread reports reaches nobody: work beside other work that reports for all.
class QuietProgress {
 public:
  QuietProgress();
  ~QuietProgress();
  QuietProgress(const QuietProgress&) = delete;
  QuietProgress& operator=(const QuietProgress&) = delete;

 private:
  bool before_;
};

}  // namespace espq
