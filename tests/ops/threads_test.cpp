// Loops share their work among threads, and how many there are decides no number.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>

#include "core/ops/training/conv_gradient.h"
#include "core/ops/training/max_pool_gradient.h"
#include "core/quant/quantize_gradient.h"
#include "tests/ops/node_run.h"

namespace espq {
namespace {

/// Threads of LibTorch while it lives.
class ThreadCount {
 public:
  explicit ThreadCount(int count) : before_(at::get_num_threads()) { at::set_num_threads(count); }
  ~ThreadCount() { at::set_num_threads(before_); }

 private:
  int before_;
};

TEST(Threads, ShareTheWorkOfALoop) {
  const ThreadCount three(3);
  std::atomic<int> parts = 0;
  at::parallel_for(0, 3, 1, [&](int64_t begin, int64_t end) { parts += end - begin == 1; });
  EXPECT_EQ(parts, 3) << "at::parallel_for needs OpenMP where it is compiled";
}

/// Conv (40 samples, more than one piece of work, or one that is large), Relu and rounding, MaxPool, learned rounding.
Tensors training_step(at::IntArrayRef input_shape, int threads) {
  const ThreadCount count(threads);
  Graph graph;
  std::vector<Variable*> operands{&graph.add_variable(), &graph.add_variable(), &graph.add_variable()};
  Operation& operation = graph.add_operation("Conv", "conv", operands, {&graph.add_variable()},
                                             {{"kernel_shape", Shape{3, 3}}, {"pads", Shape{1, 1, 1, 1}}});
  normalize_attributes(operation);
  at::manual_seed(1);
  const int64_t channels = input_shape[1];
  // On their grids, as the fast kernels need it; gradients are not, so that their order of additions shows.
  const at::Tensor input = at::randint(-128, 128, input_shape, at::kFloat).div_(64).requires_grad_();
  const at::Tensor filters = at::randint(-128, 128, {12, channels, 3, 3}, at::kFloat).div_(128).requires_grad_();
  const at::Tensor bias = at::randint(-999, 999, {12}, at::kFloat).div_(8192).requires_grad_();
  const at::Tensor log2_scale = at::full({1}, -4.0f).requires_grad_();
  ConvGradientOptions options;
  options.round_filters = {.grid = {8, {-7}}};
  options.input = {8, {-6}};
  options.filters = {8, {-7}};
  options.output = {.grid = {8, {-4}}};
  options.relu = true;
  const at::Tensor sums = convolve_with_gradient(operation, input, filters, bias, options);
  const at::Tensor pooled = max_pool_with_gradient(sums, {{2, 2}, {2, 2}, {1, 1}, {0, 0}, {0, 0}});
  const at::Tensor result =
      fake_quantize_with_gradient(pooled * 1.37, {.grid = {8, {-4}}, .rounding = Rounding::HalfUp}, log2_scale);
  (result * at::randn(result.sizes())).sum().backward();
  return {result.detach(), input.grad(), filters.grad(), bias.grad(), log2_scale.grad()};
}

TEST(Threads, DecideNoNumber) {
  for (const Shape& shape : {Shape{40, 8, 32, 32}, Shape{1, 8, 120, 130}, Shape{2, 3, 300, 40}}) {
    const Tensors one = training_step(shape, 1);
    for (const int threads : {2, 3, 8}) {
      const Tensors several = training_step(shape, threads);
      for (size_t i = 0; i < one.size(); ++i)
        EXPECT_TRUE(at::equal(several[i], one[i])) << i << " with " << threads << " threads, shape " << shape[0];
    }
  }
}

}  // namespace
}  // namespace espq
