#include "tests/optimize/noise.h"

#include <ATen/ATen.h>

#include "core/analysis/measure.h"
#include "core/exec/executor.h"
#include "passes/pipeline/convert.h"
#include "tests/user_error.h"

namespace espq::test {

Dataset pictures(const Graph& graph, int64_t count, uint64_t seed) {
  at::manual_seed(seed);
  std::vector<Dataset::Batch> batches;
  for (int64_t i = 0; i < count; ++i)
    batches.push_back({{graph.inputs()[0]->name(), at::rand(*graph.inputs()[0]->shape())}});
  return Dataset(std::move(batches));
}

double noise_on(const Dataset& unseen, const Graph& network, const Graph& quantized) {
  Executor exact(network, Precision::Float), executor(quantized, Precision::Simulated);
  double noise = 0;
  for (size_t i = 0; i < unseen.size(); ++i) {
    const Tensors inputs = unseen.inputs(network, i);
    noise += measure(Measure::NoiseToSignal, executor.run(inputs)[0], exact.run(inputs)[0]);
  }
  return noise / static_cast<double>(unseen.size());
}

double noise_of(const Graph& network, const Graph& quantized) {
  return noise_on(pictures(network, 8, 99), network, quantized);
}

double noise_with(const Graph& network, const Recipe& recipe) {
  return noise_of(network, convert(network, pictures(network, 8, 1), recipe).quantized);
}

std::string refusal_of(const Graph& network, const std::function<void(Recipe&)>& change) {
  Recipe recipe;
  change(recipe);
  return user_error_of([&] { convert(network, pictures(network, 4, 1), recipe); });
}

}  // namespace espq::test
