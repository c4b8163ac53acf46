#pragma once
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/exec/executor.h"
#include "core/graph/graph.h"
#include "core/ops/operator.h"

namespace espq {

/// A graph written by hand, one line per operation.
class Net {
 public:
  explicit Net(uint64_t seed = 7) { at::manual_seed(seed); }

  Graph graph;

  Variable* input(Shape shape, const std::string& name = "x", at::ScalarType dtype = at::kFloat) {
    Variable& variable = graph.add_variable(name);
    variable.set_shape(std::move(shape));
    variable.set_dtype(dtype);
    graph.add_input(variable);
    return &variable;
  }
  Variable* constant(const at::Tensor& value, const std::string& name = {}) {
    return &graph.add_parameter(name, value);
  }
  Variable* scalar(double value) { return constant(at::scalar_tensor(value)); }
  Variable* integers(const Shape& values) { return constant(at::tensor(values, at::kLong)); }
  Variable* random(const Shape& shape, const std::string& name = {}) { return constant(at::randn(shape) * 0.3, name); }

  Variable* op(const std::string& type, std::vector<Variable*> inputs, AttributeMap attributes = {},
               const std::string& name = {}) {
    Variable& result = graph.add_variable();
    Operation& operation = graph.add_operation(type, name, std::move(inputs), {&result}, std::move(attributes));
    normalize_attributes(operation);
    return &result;
  }
  /// 3 x 3 Conv with padding 1 and a bias.
  Variable* conv(Variable* x, int64_t in, int64_t out, const std::string& name = {}) {
    return op("Conv", {x, random({out, in, 3, 3}), random({out})}, {{"pads", Shape{1, 1, 1, 1}}}, name);
  }
  void output(Variable* variable) { graph.add_output(*variable); }

  /// Shapes of all variables; call it when the graph is complete.
  Net& shapes() {
    verify(graph);
    infer_shapes(graph, zero_inputs(graph));
    return *this;
  }
};

inline std::vector<std::string> types(const Graph& graph) {
  std::vector<std::string> result;
  for (const Operation* operation : graph.topological_order()) result.push_back(operation->type());
  return result;
}

inline std::vector<std::string> output_names(const Graph& graph) {
  std::vector<std::string> result;
  for (const Variable* output : graph.outputs()) result.push_back(output->name());
  return result;
}

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
  ASSERT_EQ(output_names(before), output_names(after));
  Executor first(before, Precision::Float), second(after, Precision::Float);
  for (int sample = 0; sample < 3; ++sample) {
    const Tensors inputs = random_inputs(before);
    const Tensors expected = first.run(inputs), actual = second.run(inputs);
    for (size_t i = 0; i < expected.size(); ++i)
      EXPECT_LE(difference(expected[i], actual[i]), tolerance) << "output " << before.outputs()[i]->name();
  }
}

}  // namespace espq
