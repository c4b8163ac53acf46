#include "core/support/progress.h"

#include <utility>

namespace espq {
namespace {

ProgressFunction& current() {
  static ProgressFunction listener;
  return listener;
}

}  // namespace

void set_progress_listener(ProgressFunction listener) { current() = std::move(listener); }

void report_progress(std::string_view step, size_t done, size_t total) {
  if (current()) current()(step, done, total);
}

}  // namespace espq
