#pragma once
#include <ATen/ATen.h>

#include "core/ops/operator.h"
#include "passes/pipeline/convert.h"

namespace espq {

/// Conv 3x3 (2 -> 5, padded) -> Relu -> MaxPool 2x2 -> Flatten -> Gemm (60 -> 3) on [N, 2, 6, 8], seeded.
inline Graph small_float_network() {
  at::manual_seed(7);
  Graph graph;
  graph.name = "small";
  Variable& x = graph.add_variable("x");
  x.set_shape(Shape{1, 2, 6, 8});
  const auto add = [&](const char* type, const char* name, Variable* input, std::vector<Variable*> parameters,
                       AttributeMap attributes = {}) {
    Variable& output = graph.add_variable(std::string(name) + ".out");
    parameters.insert(parameters.begin(), input);
    normalize_attributes(graph.add_operation(type, name, parameters, {&output}, std::move(attributes)));
    return &output;
  };
  Variable* c = add("Conv", "conv", &x,
                    {&graph.add_parameter("conv.weight", at::randn({5, 2, 3, 3}) * 0.3),
                     &graph.add_parameter("conv.bias", at::randn({5}) * 0.1)},
                    {{"kernel_shape", Shape{3, 3}}, {"pads", Shape{1, 1, 1, 1}}});
  Variable* r = add("Relu", "relu", c, {});
  Variable* p = add("MaxPool", "pool", r, {}, {{"kernel_shape", Shape{2, 2}}, {"strides", Shape{2, 2}}});
  Variable* f = add("Flatten", "flatten", p, {});
  Variable* y = add("Gemm", "gemm", f,
                    {&graph.add_parameter("gemm.weight", at::randn({3, 60}) * 0.2),
                     &graph.add_parameter("gemm.bias", at::randn({3}) * 0.1)},
                    {{"transB", int64_t{1}}});
  graph.set_inputs({&x});
  graph.set_outputs({y});
  return graph;
}

inline Dataset small_data(int64_t batches = 4) {
  at::manual_seed(8);
  std::vector<Dataset::Batch> data;
  for (int64_t i = 0; i < batches; ++i) data.push_back({{"", at::randn({1, 2, 6, 8})}});
  return Dataset(std::move(data));
}

inline Graph small_quantized_network(const std::string& target) {
  Graph graph = small_float_network();
  Recipe recipe;
  recipe.target = target;
  graph = convert(graph, small_data(), recipe).quantized;
  return graph;
}

}  // namespace espq
