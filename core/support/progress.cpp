#include "core/support/progress.h"

#include <mutex>
#include <utility>

namespace espq {
namespace {

ProgressFunction& current() {
  static ProgressFunction listener;
  return listener;
}

thread_local bool quiet = false;

}  // namespace

void set_progress_listener(ProgressFunction listener) { current() = std::move(listener); }

void report_progress(std::string_view step, size_t done, size_t total) {
  static std::mutex one_at_a_time;
  if (quiet || !current()) return;
  const std::lock_guard lock(one_at_a_time);
  current()(step, done, total);
}

QuietProgress::QuietProgress() : before_(std::exchange(quiet, true)) {}
QuietProgress::~QuietProgress() { quiet = before_; }

}  // namespace espq
