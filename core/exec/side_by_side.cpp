#include "core/exec/side_by_side.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace espq {

namespace {

/// What this thread may use; 0: LibTorch's number, nobody has said otherwise.
thread_local size_t usable_threads = 0;

}  // namespace

OneThreadEach::OneThreadEach()
    : libtorch_before_(at::get_num_threads()),
      known_before_(usable_threads),
      threads_(known_before_ ? known_before_ : static_cast<size_t>(libtorch_before_)) {
  usable_threads = threads_;
  at::set_num_threads(1);
}

OneThreadEach::~OneThreadEach() {
  usable_threads = known_before_;
  at::set_num_threads(libtorch_before_);
}

void share_out(size_t count, size_t threads, const std::function<void(size_t)>& work) {
  share_out(count, threads, [&work](size_t index, size_t) { work(index); });
}

void share_out(size_t count, size_t threads, const std::function<void(size_t, size_t)>& work) {
  std::atomic<size_t> next = 0;
  std::exception_ptr failure;
  std::mutex failing;
  const size_t side_by_side = std::min(threads, count), usable_before = usable_threads;
  const auto take = [&](size_t thread) {
    if (side_by_side > 1) usable_threads = 1;
    try {
      for (size_t i = next++; i < count; i = next++) work(i, thread);
    } catch (...) {
      const std::lock_guard lock(failing);
      if (!failure) failure = std::current_exception();
      next = count;
    }
  };
  std::vector<std::thread> helpers;
  for (size_t i = 1; i < side_by_side; ++i) {
    helpers.emplace_back([&take, i] {
      at::init_num_threads();  // libraries below LibTorch would use all cores in a thread that it has not seen yet
      take(i);
    });
  }
  take(0);
  usable_threads = usable_before;
  for (std::thread& helper : helpers) helper.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace espq
