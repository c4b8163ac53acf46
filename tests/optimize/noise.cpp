#include "tests/optimize/noise.h"

#include <ATen/ATen.h>

#include "core/analysis/measure.h"
#include "core/exec/executor.h"
#include "passes/pipeline/convert.h"

namespace espq::test {

Dataset pictures(const Graph& graph, int64_t count, uint64_t seed) {
  at::manual_seed(seed);
  std::vector<Dataset::Batch> batches;
  for (int64_t i = 0; i < count; ++i)
    batches.push_back({{graph.inputs()[0]->name(), at::rand(*graph.inputs()[0]->shape())}});
  return Dataset(std::move(batches));
}

double noise_of(const Graph& network, const Graph& quantized) {
  Executor exact(network, Precision::Float), executor(quantized, Precision::Simulated);
  const Dataset unseen = pictures(network, 8, 99);
  double noise = 0;
  for (size_t i = 0; i < unseen.size(); ++i) {
    const Tensors inputs = unseen.inputs(network, i);
    noise += measure(Measure::NoiseToSignal, executor.run(inputs)[0], exact.run(inputs)[0]) / 8;
  }
  return noise;
}

double noise_with(const Graph& network, const Recipe& recipe) {
  return noise_of(network, convert(network, pictures(network, 8, 1), recipe).quantized);
}

}  // namespace espq::test
