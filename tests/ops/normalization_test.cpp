#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/support/error.h"
#include "tests/ops/node_run.h"

namespace espq {
namespace {

/// The definition of ONNX, element by element in double.
at::Tensor local_response(const at::Tensor& x, int64_t size, double alpha, double beta, double bias) {
  const int64_t channels = x.size(1), inner = x.numel() / (x.size(0) * channels);
  const at::Tensor wide = x.to(at::kDouble).contiguous();
  at::Tensor result = at::empty_like(wide);
  const double* from = wide.const_data_ptr<double>();
  double* to = result.mutable_data_ptr<double>();
  for (int64_t i = 0; i < wide.numel(); ++i) {
    const int64_t channel = i / inner % channels;
    const int64_t first = std::max<int64_t>(0, channel - (size - 1) / 2);
    const int64_t last = std::min(channels - 1, channel + static_cast<int64_t>(std::ceil((size - 1) / 2.0)));
    double sum = 0;
    for (int64_t other = first; other <= last; ++other) sum += std::pow(from[i + (other - channel) * inner], 2);
    to[i] = from[i] / std::pow(bias + alpha / static_cast<double>(size) * sum, beta);
  }
  return result;
}

TEST(LRN, DividesByTheNeighbouringChannels) {
  at::manual_seed(3);
  for (const Shape& shape : {Shape{2, 7, 4, 3}, Shape{1, 5, 6}, Shape{3, 4}})
    for (const int64_t size : {1, 2, 3, 4, 9}) {
      SCOPED_TRACE(fmt::format("shape [{}], size {}", fmt::join(shape, ", "), size));
      const at::Tensor x = at::randn(shape) * 3;
      const at::Tensor y = run_one("LRN", {x}, {{"size", size}, {"alpha", 0.7f}, {"beta", 0.6f}, {"bias", 1.5f}});
      EXPECT_TRUE(at::allclose(y.to(at::kDouble), local_response(x, size, 0.7f, 0.6f, 1.5f), 1e-5, 1e-6));
    }
}

TEST(LRN, HasTheDefaultsOfOnnxAndAGradient) {
  const at::Tensor x = at::arange(1, 9, at::kFloat).reshape({1, 4, 2}).requires_grad_();
  const at::Tensor y = run_one("LRN", {x}, {{"size", int64_t{3}}});
  EXPECT_TRUE(at::allclose(y.to(at::kDouble), local_response(x.detach(), 3, 1e-4f, 0.75f, 1), 1e-5, 1e-6));
  y.sum().backward();
  EXPECT_TRUE(x.grad().defined());
  EXPECT_THROW(run_one("LRN", {x}, {{"size", int64_t{0}}}), UserError);
  EXPECT_THROW(run_one("LRN", {x}), UserError);
}

}  // namespace
}  // namespace espq
