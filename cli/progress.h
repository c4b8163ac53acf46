#pragma once
#include <chrono>
#include <string>
#include <string_view>

namespace espq::cli {

/// While it lives, long steps draw a progress bar on the error stream, if that is a terminal and the bar is wanted.
class ProgressBar {
 public:
  explicit ProgressBar(bool wanted);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

 private:
  void draw(std::string_view step, size_t done, size_t total);
  bool active_;
  std::chrono::steady_clock::time_point last_{};
};

/// "calibration [#####     ]  50 %", `width` characters wide.
std::string progress_line(std::string_view step, size_t done, size_t total, size_t width);

}  // namespace espq::cli
