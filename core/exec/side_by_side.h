#pragma once
#include <cstddef>
#include <functional>

namespace espq {

/// While it lives every operator of LibTorch runs on one thread, in threads that start meanwhile, too: for more of them
/// LibTorch chooses other kernels, with other rounding.
class OneThreadEach {
 public:
  OneThreadEach();
  ~OneThreadEach();
  OneThreadEach(const OneThreadEach&) = delete;
  OneThreadEach& operator=(const OneThreadEach&) = delete;
  /// LibTorch's number of threads without it: how many may work side by side instead.
  size_t threads() const { return static_cast<size_t>(before_); }

 private:
  int before_;
};

/// work(0) .. work(count - 1), each once, on `threads` threads. The first exception ends it and comes back to the
/// caller. Small layers keep several cores busier this way than operator by operator; which thread does what changes no
/// number.
void share_out(size_t count, size_t threads, const std::function<void(size_t)>& work);
/// The same for work(index, thread) that keeps something per thread; they count from 0.
void share_out(size_t count, size_t threads, const std::function<void(size_t index, size_t thread)>& work);

}  // namespace espq
