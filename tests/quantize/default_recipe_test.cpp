// espq's own recipe on the reference networks, those that esp-ppq 1.3.12 cannot quantize included: it must work
// everywhere, and be worth its differences from that package's choices.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/exec/executor.h"
#include "core/ops/operator.h"
#include "onnx_frontend/onnx_frontend.h"
#include "tests/peer_run.h"

namespace espq {
namespace {

std::vector<std::filesystem::path> reference_networks() {
  std::vector<std::filesystem::path> networks;
  for (const auto& entry : std::filesystem::directory_iterator(peer_cases().folder))
    if (std::filesystem::exists(entry.path() / "model.onnx")) networks.push_back(entry.path());
  std::sort(networks.begin(), networks.end());
  return networks;
}

/// Noise power over signal power of the floating outputs, over all batches.
double output_error(const Graph& reference, const Graph& quantized, const Dataset& data) {
  Executor float_executor(reference, Precision::Float), simulated(quantized, Precision::Simulated);
  double noise = 0, signal = 0;
  for (size_t i = 0; i < data.size(); ++i) {
    const Tensors expected = float_executor.run(data.inputs(reference, i));
    const Tensors found = simulated.run(data.inputs(quantized, i));
    for (size_t output = 0; output < expected.size(); ++output) {
      if (!expected[output].is_floating_point()) continue;
      noise += (found[output] - expected[output]).to(at::kDouble).square().sum().item<double>();
      signal += expected[output].to(at::kDouble).square().sum().item<double>();
    }
  }
  return noise / (signal + 1e-30);
}

double error_with(const std::filesystem::path& network, const Recipe& recipe) {
  const Graph reference = import_onnx(network / "model.onnx");
  Graph graph = import_onnx(network / "model.onnx");
  const Dataset data = Dataset::open({network / "calib"});
  graph = convert(graph, data, recipe).quantized;
  verify(graph);
  return output_error(reference, graph, data);
}

TEST(DefaultRecipe, QuantizesEveryReferenceNetworkWithLessNoise) {
  at::set_num_threads(1);
  const char* filter = std::getenv("ESPQ_PEER_RUN");
  int runs = 0, better = 0, worse = 0;
  double ratio = 0;
  for (const auto& network : reference_networks()) {
    const std::string name = network.filename();
    if (filter && name.find(filter) == std::string::npos) continue;
    if (!operators().find("GRU") && (name.find("gru") != std::string::npos || name.find("lstm") != std::string::npos))
      continue;
    for (const char* target : {"esp32p4", "esp32s3", "c"}) {
      SCOPED_TRACE(fmt::format("{} for {}", name, target));
      Recipe own, parity = find_recipe("esp-ppq-1.3.12");
      own.target = parity.target = target;
      own.widths.check_kernels = false;  // some networks test operators that the chip library does not have
      try {
        const double own_error = error_with(network, own), parity_error = error_with(network, parity);
        EXPECT_TRUE(std::isfinite(own_error));
        ++runs;
        better += own_error < 0.98 * parity_error;
        worse += own_error > 1.02 * parity_error;
        ratio += std::log((own_error + 1e-9) / (parity_error + 1e-9));
        fmt::print("{:24} {:8} {:10.3e} {:10.3e} {:6.2f}\n", name, target, own_error, parity_error,
                   own_error / parity_error);
      } catch (const std::exception& error) {
        ADD_FAILURE() << error.what();
      }
    }
  }
  fmt::print(
      "{} runs: noise at the outputs {:.2f} times that of the esp-ppq 1.3.12 recipe (geometric mean); less in {}, "
      "more in {}\n",
      runs, std::exp(ratio / runs), better, worse);
  // Single networks may lose by the luck of the data; as a whole the recipe has to win clearly.
  if (!filter) {
    EXPECT_LT(std::exp(ratio / runs), 0.9);
  }
}

}  // namespace
}  // namespace espq
