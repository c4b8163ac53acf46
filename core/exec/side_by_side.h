#pragma once
#include <cstddef>
#include <functional>

namespace espq {

/// While it lives every operator of LibTorch runs on one thread, in threads that start meanwhile, too: for more of them
/// LibTorch chooses other kernels, with other rounding. Whatever is to be the same for any number of threads lives
/// within one, from its first number on; one within another changes nothing.
class OneThreadEach {
 public:
  OneThreadEach();
  ~OneThreadEach();
  OneThreadEach(const OneThreadEach&) = delete;
  OneThreadEach& operator=(const OneThreadEach&) = delete;
  /// How many threads may work side by side instead: LibTorch's number outside of the first one, 1 for work that is
  /// done side by side already.
  size_t threads() const { return threads_; }

 private:
  int libtorch_before_;
  size_t known_before_, threads_;
};

/// work(0) .. work(count - 1), each once, on `threads` threads. The first exception ends it and comes back to the
/// caller. Small layers keep several cores busier this way than operator by operator; which thread does what changes no
/// number. OneThreadEach gives such work one thread, and all of them to work that is alone.
void share_out(size_t count, size_t threads, const std::function<void(size_t)>& work);
/// The same for work(index, thread) that keeps something per thread; they count from 0.
void share_out(size_t count, size_t threads, const std::function<void(size_t index, size_t thread)>& work);

}  // namespace espq
