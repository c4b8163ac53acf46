#pragma once
#include "passes/pipeline/convert.h"
#include "tests/support/graph_builder.h"

namespace espq {

/// Conv 3x3 (2 -> 5, padded) -> Relu -> MaxPool 2x2 -> Flatten -> Gemm (60 -> 3) on [N, 2, 6, 8].
inline Graph small_float_network() {
  test::GraphBuilder net;
  Variable* features = net.op("Relu", "relu", {net.conv("conv", net.input({1, 2, 6, 8}), 5)});
  Variable* pooled = net.op("MaxPool", "pool", {features}, {{"kernel_shape", Shape{2, 2}}, {"strides", Shape{2, 2}}});
  Variable* row = net.op("Flatten", "flatten", {pooled});
  net.output(net.op("Gemm", "gemm", {row, net.random("gemm.weight", {3, 60}, 0.2), net.random("gemm.bias", {3}, 0.1)},
                    {{"transB", int64_t{1}}}));
  return std::move(net.graph);
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
