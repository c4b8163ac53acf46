#include "qat/data_parallel.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <csignal>
#include <filesystem>

#include "core/support/file.h"
#include "qat/tensor_file.h"
#include "tests/user_error.h"

namespace espq {
namespace {

using ::testing::HasSubstr;

class DataParallelRun : public ::testing::Test {
 protected:
  std::filesystem::path folder_ =
      std::filesystem::path(::testing::TempDir()) / ::testing::UnitTest::GetInstance()->current_test_info()->name();
  void SetUp() override { std::filesystem::remove_all(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  int run(const std::string& name, const std::string& arguments) {
    std::filesystem::create_directories(folder_ / name);
    const int status = std::system(fmt::format("{} {} {} > {} 2>&1", ESPQ_DATA_PARALLEL_PROGRAM,
                                               (folder_ / name).string(), arguments, (folder_ / name / "log").string())
                                       .c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  std::string log(const std::string& name) { return read_file(folder_ / name / "log"); }
  NamedTensors tensors(const std::string& file) { return read_tensors(folder_ / file); }
};

TEST_F(DataParallelRun, TwoProcessesGiveTheGradientsOfOneWithTheWholeBatch) {
  ASSERT_EQ(run("one", "1 1"), 0) << log("one");
  ASSERT_EQ(run("two", "2 1"), 0) << log("two");
  ASSERT_EQ(run("four", "4 1"), 0) << log("four");
  const NamedTensors whole = tensors("one/gradients_0.pt");
  EXPECT_EQ(whole.size(), 7u);
  for (const auto& [name, gradient] : whole) {
    EXPECT_GT(gradient.abs().max().item<float>(), 0) << name;
    // Sums of the same products in float32, in another order.
    for (const char* run : {"two", "four"}) {
      const at::Tensor mean = tensors(std::string(run) + "/gradients_0.pt").at(name);
      EXPECT_TRUE(at::allclose(mean, gradient, 1e-4, 1e-6)) << run << " " << name;
    }
    EXPECT_TRUE(at::equal(tensors("two/gradients_0.pt").at(name), tensors("two/gradients_1.pt").at(name))) << name;
    EXPECT_TRUE(at::equal(tensors("four/gradients_0.pt").at(name), tensors("four/gradients_3.pt").at(name))) << name;
  }
}

TEST_F(DataParallelRun, AKilledWorkerEndsTheRunAndTheCheckpointContinuesIt) {
  ASSERT_EQ(run("whole", "2 10"), 0) << log("whole");
  for (const int rank : {0, 1}) {
    const std::string name = fmt::format("killed_{}", rank);
    EXPECT_EQ(run(name, fmt::format("2 10 {} {} 7", rank, SIGKILL)), 1);
    EXPECT_THAT(log(name), HasSubstr(fmt::format("worker {} was killed by signal 9", rank)));
    EXPECT_EQ(tensors(name + "/checkpoint.pt").at("step").item<int64_t>(), 6);
    ASSERT_EQ(run(name, "2 10"), 0) << log(name);
    EXPECT_TRUE(read_file(folder_ / name / "final.pt") == read_file(folder_ / "whole" / "final.pt"));
  }
  // A signal that one worker sees stops all of them after the same step.
  EXPECT_EQ(run("stopped", fmt::format("2 10 1 {} 4", SIGTERM)), 128 + SIGTERM);
  EXPECT_EQ(tensors("stopped/checkpoint.pt").at("step").item<int64_t>(), 4);
  ASSERT_EQ(run("stopped", "2 10"), 0) << log("stopped");
  EXPECT_TRUE(read_file(folder_ / "stopped" / "final.pt") == read_file(folder_ / "whole" / "final.pt"));
}

TEST(DataParallel, SharesRowsEqually) {
  EXPECT_TRUE(at::equal(DataParallel(Worker{}).part(at::arange(6)), at::arange(6)));
  EXPECT_THAT(test::user_error_of([] { launch_workers(0, [](const Worker&) { return 0; }); }),
              HasSubstr("0 processes"));
}

}  // namespace
}  // namespace espq
