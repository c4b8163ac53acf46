#include "qat/training.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <torch/optim/adam.h>
#include <torch/optim/sgd.h>

#include <filesystem>

#include "core/support/error.h"
#include "core/support/file.h"
#include "qat/distillation.h"
#include "tests/qat/small_network.h"
#include "tests/user_error.h"

namespace espq {
namespace {

using ::testing::HasSubstr;

// ------------------------------------------------------------------------------------------------ resume
struct Interruption {
  const char* name;
  int signal;
  int after;
  int64_t resumed_after;  ///< SIGKILL loses what came after the last checkpoint (every third step)
};

class Resume : public ::testing::TestWithParam<Interruption> {
 protected:
  std::filesystem::path folder_ =
      std::filesystem::path(::testing::TempDir()) / (std::string("espq_resume_") + GetParam().name);
  void SetUp() override {
    std::filesystem::remove_all(folder_);
    for (const char* run : {"whole", "parts"}) std::filesystem::create_directories(folder_ / run);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  /// Exit status as the shell gives it.
  int run(const char* name, const std::string& arguments) {
    const std::string command = std::string(ESPQ_RESUME_PROGRAM) + " " + (folder_ / name).string() + " " + arguments +
                                " > " + (folder_ / name / "log").string() + " 2>&1";
    const int status = std::system(("sh -c '" + command + "; exit $?'").c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
};

TEST_P(Resume, GivesTheBytesOfTheUninterruptedRun) {
  const Interruption& stop = GetParam();
  ASSERT_EQ(run("whole", "14"), 0);
  EXPECT_EQ(run("parts", fmt::format("14 {} {}", stop.signal, stop.after)), 128 + stop.signal);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "parts" / "final.pt"));
  ASSERT_EQ(run("parts", "14"), 0);
  EXPECT_THAT(read_file(folder_ / "parts" / "log"),
              HasSubstr(fmt::format("resumed after step {}", stop.resumed_after)));
  EXPECT_TRUE(read_file(folder_ / "parts" / "final.pt") == read_file(folder_ / "whole" / "final.pt"));
}

INSTANTIATE_TEST_SUITE_P(Signals, Resume,
                         ::testing::Values(Interruption{"interrupt", SIGINT, 4, 4},
                                           Interruption{"terminate", SIGTERM, 11, 11},
                                           Interruption{"kill", SIGKILL, 8, 6}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Checkpoint, RefusesWhatDoesNotFit) {
  const auto file = std::filesystem::path(::testing::TempDir()) / "espq_checkpoint.pt";
  const Graph graph = small_quantized_network("esp32p4");
  TrainableGraph trainable(graph);
  torch::optim::Adam adam(trainable.parameters());
  TrainingState state{trainable, &adam};
  state.step = 12;
  EXPECT_FALSE(load_checkpoint("/nowhere/checkpoint.pt", state));
  save_checkpoint(file, state);
  state.step = 0;
  EXPECT_TRUE(load_checkpoint(file, state));
  EXPECT_EQ(state.step, 12);
  MovingAverage average(trainable, 0.5);
  TrainingState averaged{trainable, &adam, &average};
  EXPECT_THAT(test::user_error_of([&] { load_checkpoint(file, averaged); }), HasSubstr("moving average"));
  torch::optim::SGD fewer({trainable.parameters()[0]}, torch::optim::SGDOptions(0.1));
  TrainingState other{trainable, &fewer};
  EXPECT_THAT(test::user_error_of([&] { load_checkpoint(file, other); }), HasSubstr("espq_checkpoint.pt"));
  write_file(file, "not a checkpoint");
  EXPECT_THAT(test::user_error_of([&] { load_checkpoint(file, state); }), HasSubstr("espq_checkpoint.pt"));
  std::filesystem::remove(file);
}

// ------------------------------------------------------------------------------------------------ pieces
TEST(BatchOrder, EveryEpochIsAPermutationOfItsOwn) {
  BatchOrder order(10, 3, 1), same(10, 3, 1), other(10, 3, 2);
  std::vector<at::Tensor> epochs;
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    std::vector<at::Tensor> rows;
    for (int64_t batch = 0; batch < 3; ++batch) rows.push_back(order.batch(epoch * 3 + batch));
    epochs.push_back(at::cat(rows));
    EXPECT_EQ(std::get<0>(at::_unique(epochs.back())).numel(), 9);
  }
  EXPECT_FALSE(at::equal(epochs[0], epochs[1]));
  EXPECT_TRUE(at::equal(same.batch(4), order.batch(4)));  // without the steps before
  EXPECT_FALSE(at::equal(other.batch(4), order.batch(4)));
  EXPECT_THAT(test::user_error_of([] { BatchOrder(2, 3, 1); }), HasSubstr("2 rows"));
}

TEST(FreezeSchedule, FreezesFromItsStepOn) {
  TrainOptions options;
  options.learn_activation_exponents = true;
  TrainableGraph trainable(small_quantized_network("esp32p4"), options);
  FreezeSchedule schedule;
  schedule.add(2, is_exponent_name);
  schedule.apply(trainable, 1);
  EXPECT_EQ(trainable.exponents().size(), 3u);
  trainable.forward({at::randn({4, 2, 6, 8})})[0].sum().backward();
  schedule.apply(trainable, 2);
  EXPECT_EQ(trainable.exponents().size(), 0u);
  EXPECT_EQ(trainable.weights().size(), 4u);
  trainable.forward({at::randn({4, 2, 6, 8})})[0].sum().backward();
  EXPECT_TRUE(is_exponent_name("a.exponent.2"));
  EXPECT_FALSE(is_exponent_name("a.exponents"));
}

TEST(MovingAverage, FollowsItsFormula) {
  TrainableGraph trainable(small_quantized_network("esp32p4"));
  MovingAverage average(trainable, 0.9);
  const at::Tensor weight = trainable.weights()[0];
  at::Tensor want = weight.detach().clone();
  for (int step = 1; step <= 100; ++step) {
    weight.detach().add_(0.01);
    average.update();
    const double decay = std::min(0.9, (1.0 + step) / (10.0 + step));
    want = want * decay + weight.detach() * (1 - decay);
  }
  const at::Tensor last = weight.detach().clone();
  average.exchange();
  EXPECT_TRUE(at::allclose(weight.detach(), want, 1e-5, 1e-5));
  average.exchange();
  EXPECT_TRUE(at::equal(weight.detach(), last));
}

TEST(Distillation, EqualsTheTextbook) {
  const at::Tensor student = at::randn({4, 5}).requires_grad_(), teacher = at::randn({4, 5});
  const at::Tensor loss = distillation_loss(student, teacher, 2.0);
  const at::Tensor want =
      at::kl_div(at::log_softmax(student / 2, 1), at::softmax(teacher / 2, 1), at::Reduction::Sum) / 4 * 4;
  EXPECT_NEAR(loss.item<float>(), want.item<float>(), 1e-5);
  loss.backward();
  // d/d student = T * (softmax(student / T) - softmax(teacher / T)) / rows
  EXPECT_TRUE(at::allclose(student.grad(), (at::softmax(student.detach() / 2, 1) - at::softmax(teacher / 2, 1)) * 2 / 4,
                           1e-5, 1e-6));
  EXPECT_FLOAT_EQ(distillation_loss(teacher, teacher).item<float>(), 0.0f);
  const at::Tensor other = teacher * 1.1;
  EXPECT_NEAR(relative_error_loss({other, other * 100}, {teacher, teacher * 100}).item<float>(), 0.01, 1e-5);
  EXPECT_THAT(test::user_error_of([&] { relative_error_loss({other}, {}); }), HasSubstr("0 outputs"));
}

/// Gradients of two half batches add up to the gradient of the whole one.
TEST(GradientAccumulation, NeedsNothingSpecial) {
  const Graph graph = small_quantized_network("esp32s3");
  TrainableGraph whole(graph), parts(graph);
  const at::Tensor x = at::randn({8, 2, 6, 8}), target = at::randn({8, 3});
  at::mse_loss(whole.forward({x})[0], target).backward();
  for (int64_t part = 0; part < 2; ++part) {
    const int64_t begin = part * 4, end = begin + 4;
    (at::mse_loss(parts.forward({x.slice(0, begin, end)})[0], target.slice(0, begin, end)) / 2).backward();
  }
  for (size_t i = 0; i < whole.parameters().size(); ++i)
    EXPECT_TRUE(at::allclose(whole.parameters()[i].grad(), parts.parameters()[i].grad(), 1e-4, 1e-6));
}

}  // namespace
}  // namespace espq
