#pragma once
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/exec/executor.h"
#include "core/graph/graph.h"
#include "core/ops/operator.h"

namespace espq::test {

inline Tensors random_inputs(const Graph& graph) {
  Tensors result;
  for (const Variable* input : graph.inputs())
    result.push_back(at::isFloatingType(input->dtype())
                         ? at::randn(*input->shape())
                         : at::zeros(*input->shape(), at::TensorOptions().dtype(input->dtype())));
  return result;
}

/// Largest |a - b| relative to the largest |a| of the output (at least 1).
inline double difference(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type()) return 1e30;
  if (a.numel() == 0) return 0;
  const at::Tensor left = a.to(at::kDouble), right = b.to(at::kDouble);
  const at::Tensor gap = at::where(left == right, at::zeros_like(left), (left - right).abs());  // inf == inf
  return (gap.max() / left.abs().nan_to_num(0, 0, 0).max().clamp_min(1)).item<double>();
}

/// Both graphs compute the same on three random inputs. Folding reorders float32 arithmetic: sums of some hundred
/// products of order 1 differ in the last two or three of 24 bits.
constexpr double kRounding = 1e-5;
inline void expect_same_function(const Graph& before, const Graph& after, double tolerance = kRounding) {
  verify(after);
  ASSERT_EQ(names_of(before.outputs()), names_of(after.outputs()));
  Executor first(before, Precision::Float), second(after, Precision::Float);
  for (int sample = 0; sample < 3; ++sample) {
    const Tensors inputs = random_inputs(before);
    const Tensors expected = first.run(inputs), actual = second.run(inputs);
    for (size_t i = 0; i < expected.size(); ++i)
      EXPECT_LE(difference(expected[i], actual[i]), tolerance) << "output " << before.outputs()[i]->name();
  }
}

}  // namespace espq::test
