#include "qat/worker_group.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>

#include "core/support/error.h"
#include "core/support/file.h"
#include "qat/tensor_file.h"
#include "tests/qat/cuda.h"
#include "tests/user_error.h"

namespace espq {
namespace {

using ::testing::HasSubstr;

/// Runs tests/qat/workers_program.cpp in folders of its own.
class Workers : public ::testing::Test {
 protected:
  std::filesystem::path folder_ =
      std::filesystem::path(::testing::TempDir()) /
      (std::string("espq_workers_") + ::testing::UnitTest::GetInstance()->current_test_info()->name());
  void SetUp() override { std::filesystem::remove_all(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  int run(const std::string& name, int processes, const std::string& arguments, const std::string& before = {}) {
    std::filesystem::create_directories(folder_ / name);
    const std::string command = fmt::format("{} {} {} {} {} > {} 2>&1", before, ESPQ_WORKERS_PROGRAM, processes,
                                            (folder_ / name).string(), arguments, (folder_ / name / "log").string());
    const int status = std::system(command.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  std::string log(const std::string& name) { return read_file(folder_ / name / "log"); }
  NamedTensors tensors(const std::string& name, const char* file) { return read_tensors(folder_ / name / file); }
};

/// Sums of 16 rows in another order: relative to the largest element, a few units of float32's last place.
void expect_close(const NamedTensors& got, const NamedTensors& want, double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  for (const auto& [name, tensor] : want) {
    const at::Tensor difference = (got.at(name).to(at::kDouble) - tensor.to(at::kDouble)).abs();
    const double size = tensor.to(at::kDouble).abs().max().item<double>();
    EXPECT_LE(difference.max().item<double>(), tolerance * std::max(size, 1e-3)) << name;
  }
}

TEST_F(Workers, TwoGiveTheGradientsOfOneWithAllRows) {
  ASSERT_EQ(run("one", 1, "1"), 0) << log("one");
  ASSERT_EQ(run("two", 2, "1"), 0) << log("two");
  ASSERT_EQ(run("four", 4, "1"), 0) << log("four");
  const NamedTensors want = tensors("one", "gradients.pt");
  double largest = 0;
  for (const auto& [name, tensor] : want) largest = std::max(largest, tensor.abs().max().item<double>());
  EXPECT_GT(largest, 1e-3);
  expect_close(tensors("two", "gradients.pt"), want, 2e-6);
  expect_close(tensors("four", "gradients.pt"), want, 2e-6);
}

TEST_F(Workers, TwoTrainLikeOneAndAlwaysAlike) {
  ASSERT_EQ(run("one", 1, "8"), 0) << log("one");
  ASSERT_EQ(run("two", 2, "8"), 0) << log("two");
  ASSERT_EQ(run("again", 2, "8"), 0) << log("again");
  expect_close(tensors("two", "final.pt"), tensors("one", "final.pt"), 1e-4);
  EXPECT_TRUE(read_file(folder_ / "two" / "final.pt") == read_file(folder_ / "again" / "final.pt"));
}

TEST_F(Workers, AKilledOneEndsTheRunAndLeavesACheckpoint) {
  ASSERT_EQ(run("whole", 2, "8"), 0) << log("whole");
  for (const int killed : {0, 1}) {
    const std::string name = fmt::format("killed_{}", killed);
    EXPECT_EQ(run(name, 2, fmt::format("8 {} 5", killed)), 1);
    EXPECT_THAT(log(name), HasSubstr(fmt::format("training process {} of 2 was ended by signal 9", killed + 1)));
    EXPECT_THAT(log(name), HasSubstr("another process of the group is gone"));
    EXPECT_FALSE(std::filesystem::exists(folder_ / name / "final.pt"));
    ASSERT_EQ(run(name, 2, "8"), 0) << log(name);
    EXPECT_TRUE(read_file(folder_ / name / "final.pt") == read_file(folder_ / "whole" / "final.pt"));
  }
}

TEST_F(Workers, StopTogetherOnASignal) {
  // `timeout` signals only the process that the user started.
  EXPECT_EQ(run("stopped", 2, "100000000", "timeout --foreground --preserve-status --signal=TERM 4"), 3)
      << log("stopped");
  EXPECT_TRUE(std::filesystem::exists(folder_ / "stopped" / "checkpoint.pt"));
}

/// On CUDA, through gloo or NCCL, as on processors.
class CudaWorkers : public Workers, public ::testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    if (!test::has_cuda()) GTEST_SKIP() << "no CUDA device";
    if (GetParam() == std::string("nccl") && !has_nccl()) GTEST_SKIP() << "built without NCCL";
    Workers::SetUp();
  }
  std::string on_cuda(const char* numbers) { return fmt::format("{} cuda {}", numbers, GetParam()); }
};

TEST_P(CudaWorkers, GiveTheGradientsOfOneProcessor) {
  ASSERT_EQ(run("one", 1, "1"), 0) << log("one");
  ASSERT_EQ(run("two", 2, on_cuda("1 -1 -1")), 0) << log("two");
  expect_close(tensors("two", "gradients.pt"), tensors("one", "gradients.pt"), 1e-5);  // sums in another order
}

TEST_P(CudaWorkers, TrainLikeOneProcessor) {
  ASSERT_EQ(run("one", 1, "8"), 0) << log("one");
  ASSERT_EQ(run("two", 2, on_cuda("8 -1 -1")), 0) << log("two");
  expect_close(tensors("two", "final.pt"), tensors("one", "final.pt"), 1e-4);
}

TEST_P(CudaWorkers, AKilledOneEndsTheRunAndLeavesACheckpoint) {
  EXPECT_EQ(run("killed", 2, on_cuda("8 1 5")), 1);
  EXPECT_THAT(log("killed"), HasSubstr("training process 2 of 2 was ended by signal 9"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "killed" / "final.pt"));
  ASSERT_EQ(run("killed", 2, on_cuda("8 -1 -1")), 0) << log("killed");
  ASSERT_EQ(run("one", 1, "8"), 0) << log("one");
  expect_close(tensors("killed", "final.pt"), tensors("one", "final.pt"), 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Through, CudaWorkers, ::testing::Values("gloo", "nccl"),
                         [](const auto& transport) { return std::string(transport.param); });

TEST(WorkerGroup, RefusesWhatIsNotThere) {
  EXPECT_THAT(test::user_error_of([] { WorkerGroup::join({.transport = Transport::Nccl}); }),
              HasSubstr(has_nccl() ? "these processes train on cpu" : "built without it"));
  const at::Device device(at::kCUDA, static_cast<at::DeviceIndex>(test::cuda_devices()));
  EXPECT_THAT(test::user_error_of([&] { WorkerGroup::join({.device = device}); }), HasSubstr("there is no"));
}

TEST(WorkerGroup, OfOneNeedsNothing) {
  ASSERT_FALSE(is_worker());
  WorkerGroup group = WorkerGroup::join();
  EXPECT_TRUE(group.is_first());
  EXPECT_EQ(group.size(), 1);
  const at::Tensor parameter = at::ones({2}).requires_grad_();
  parameter.mutable_grad() = at::full({2}, 3.0);
  group.average_gradients({parameter});
  EXPECT_TRUE(at::equal(parameter.grad(), at::full({2}, 3.0)));
  EXPECT_EQ(group.share(at::arange(5)).numel(), 5);
  EXPECT_TRUE(group.any(true));
}

TEST(WorkerGroup, SaysWhichSettingIsWrong) {
  setenv("RANK", "1", 1);
  EXPECT_THAT(test::user_error_of([] { WorkerGroup::join(); }), HasSubstr("WORLD_SIZE is not set"));
  setenv("WORLD_SIZE", "1", 1);
  EXPECT_THAT(test::user_error_of([] { WorkerGroup::join(); }), HasSubstr("RANK is 1"));
  setenv("WORLD_SIZE", "two", 1);
  EXPECT_THAT(test::user_error_of([] { WorkerGroup::join(); }), HasSubstr("'two'"));
  unsetenv("RANK");
  unsetenv("WORLD_SIZE");
}

}  // namespace
}  // namespace espq
