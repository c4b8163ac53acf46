#include "core/exec/side_by_side.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>

namespace espq {
namespace {

/// LibTorch's number of threads while a test runs.
class SideBySide : public ::testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(3); }
  void TearDown() override { at::set_num_threads(before_); }

 private:
  int before_ = at::get_num_threads();
};

TEST_F(SideBySide, LibtorchHasOneThreadWhileItLives) {
  {
    const OneThreadEach outer;
    EXPECT_EQ(at::get_num_threads(), 1);
    EXPECT_EQ(outer.threads(), 3U);
  }
  EXPECT_EQ(at::get_num_threads(), 3);
}

TEST_F(SideBySide, OneWithinAnotherKeepsTheThreads) {
  const OneThreadEach outer;
  {
    const OneThreadEach inner;
    EXPECT_EQ(inner.threads(), 3U);
    EXPECT_EQ(at::get_num_threads(), 1);
  }
  EXPECT_EQ(at::get_num_threads(), 1);
  EXPECT_EQ(OneThreadEach().threads(), 3U);
}

TEST_F(SideBySide, WorkThatIsSharedOutSharesNothingAgain) {
  const OneThreadEach outer;
  std::mutex adding;
  std::multiset<size_t> within;
  std::atomic<int> started = 0;
  share_out(3, outer.threads(), [&](size_t) {
    ++started;
    while (started < 3) std::this_thread::yield();  // every thread has one
    const OneThreadEach inner;
    const std::lock_guard lock(adding);
    within.insert(inner.threads());
  });
  EXPECT_EQ(within, (std::multiset<size_t>{1, 1, 1}));
  EXPECT_EQ(OneThreadEach().threads(), 3U);
}

TEST_F(SideBySide, WorkThatIsAloneMayShareItself) {
  const OneThreadEach outer;
  share_out(1, outer.threads(), [](size_t) { EXPECT_EQ(OneThreadEach().threads(), 3U); });
}

TEST_F(SideBySide, AnExceptionEndsTheWorkAndChangesNothing) {
  const OneThreadEach outer;
  EXPECT_THROW(share_out(3, outer.threads(), [](size_t) { throw std::runtime_error("no"); }), std::runtime_error);
  EXPECT_EQ(OneThreadEach().threads(), 3U);
}

}  // namespace
}  // namespace espq
