#include "cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "core/support/progress.h"

namespace espq::cli {
namespace {

constexpr size_t kLineWidth = 60;
constexpr auto kRedrawInterval = std::chrono::milliseconds(50);

}  // namespace

std::string progress_line(std::string_view step, size_t done, size_t total, size_t width) {
  const size_t percent = total == 0 ? 100 : 100 * done / total;
  const std::string head = fmt::format("{} [", step), tail = fmt::format("] {:>3} %", percent);
  const size_t room = width > head.size() + tail.size() ? width - head.size() - tail.size() : 0;
  const size_t filled = total == 0 ? room : room * done / total;
  return head + std::string(filled, '#') + std::string(room - filled, ' ') + tail;
}

ProgressBar::ProgressBar(bool wanted) : active_(wanted && ::isatty(STDERR_FILENO)) {
  if (!active_) return;
  set_progress_listener([this](std::string_view step, size_t done, size_t total) { draw(step, done, total); });
}

ProgressBar::~ProgressBar() {
  if (!active_) return;
  set_progress_listener({});
  fmt::print(stderr, "\r{}\r", std::string(kLineWidth, ' '));
}

void ProgressBar::draw(std::string_view step, size_t done, size_t total) {
  const auto now = std::chrono::steady_clock::now();
  if (done < total && now - last_ < kRedrawInterval) return;
  last_ = now;
  fmt::print(stderr, "\r{}", progress_line(step, done, total, kLineWidth));
  std::fflush(stderr);
}

}  // namespace espq::cli
