#include "core/analysis/error_analysis.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/analysis/statistics.h"
#include "core/exec/executor.h"
#include "tests/support/graph_builder.h"

namespace espq {
namespace {

using namespace test;
constexpr int kExponent = -4;

/// x -> first -> Relu -> second (output), first -> side (another output). The last Conv is not reached by `second`.
GraphBuilder network() {
  at::manual_seed(11);
  GraphBuilder net("esp32p4");
  Variable* x = net.input("x", {1, 3, 6, 6});
  Operation& first = *net.quantized_conv("first", x, 4, 3)->producer();
  Operation& relu = *net.quantized("Relu", "relu", {first.output()})->producer();
  Operation& second = *net.quantized_conv("second", relu.output(), 5)->producer();
  Operation& side = *net.quantized_conv("side", relu.output(), 2)->producer();
  for (Operation* operation : {&first, &second, &side}) {
    // Weights off their grid, so that rounding them makes noise.
    Variable& weight = *operation->input(1);
    weight.set_value(weight.value() + 0.3 * std::ldexp(1.0, kExponent));
  }
  net.outputs({second.output(), side.output()});
  return net;
}

Dataset batches() {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(3);
  std::vector<Dataset::Batch> result;
  for (const int64_t samples : {1, 3, 2}) result.push_back({{"x", at::randn({samples, 3, 6, 6}, generator)}});
  return Dataset(std::move(result));
}

at::Tensor rounded(const at::Tensor& value) {
  const double step = std::ldexp(1.0, kExponent);
  return at::clamp(at::round(value / step), -128, 127) * step;
}

/// The network in LibTorch's own operators; `quantize` names the convolutions that round operands and result.
struct Eager {
  const Graph& graph;
  at::Tensor convolution(const at::Tensor& x, const std::string& name, bool quantize) const {
    const at::Tensor& weight = graph.find_variable(name + ".weight")->value();
    const int64_t padding = weight.size(2) / 2;
    const at::Tensor y = at::conv2d(quantize ? rounded(x) : x, quantize ? rounded(weight) : weight, {}, 1, padding);
    return quantize ? rounded(y) : y;
  }
  struct Values {
    at::Tensor first, second, side;
  };
  Values run(const at::Tensor& x, const std::set<std::string>& quantized, bool round_relu) const {
    const at::Tensor first = convolution(x, "first", quantized.count("first") != 0);
    const at::Tensor relu = round_relu ? rounded(at::relu(first)) : at::relu(first);
    return {first, convolution(relu, "second", quantized.count("second") != 0),
            convolution(relu, "side", quantized.count("side") != 0)};
  }
};

double noise(const at::Tensor& q, const at::Tensor& f) {
  const at::Tensor a = f.to(at::kDouble).flatten(1), b = q.to(at::kDouble).flatten(1);
  return ((b - a).square().sum(1) / (a.square().sum(1) + 1e-7)).mean().item<double>();
}

/// Weighted mean over the first batches.
template <class Measured>
double mean(const Dataset& data, size_t batches, Measured measured) {
  double sum = 0, samples = 0;
  for (size_t batch = 0; batch < batches; ++batch) {
    const at::Tensor& x = data[batch].begin()->second;
    sum += static_cast<double>(x.size(0)) * measured(x);
    samples += static_cast<double>(x.size(0));
  }
  return sum / samples;
}

TEST(LayerwiseErrors, QuantizeOneLayerAtATime) {
  const GraphBuilder net = network();
  const Dataset data = batches();
  const Eager eager{net.graph};
  for (const size_t count : {2, 3}) {
    ErrorAnalysisOptions options;
    options.batches = count;
    const auto errors = layerwise_errors(net.graph, data, options);
    ASSERT_EQ(errors.size(), 3u);
    for (const OperationError& error : errors) {
      const std::string layer = error.operation.substr(0, error.operation.find(':'));
      // The mean over both outputs; the one that the layer does not reach has no error.
      const double want = mean(data, count, [&](const at::Tensor& x) {
        const auto f = eager.run(x, {}, false), q = eager.run(x, {layer}, false);
        return (noise(q.second, f.second) + noise(q.side, f.side)) / 2;
      });
      EXPECT_GT(want, 1e-6);
      EXPECT_NEAR(error.value, want, 1e-4 * want) << layer;  // float32 sums in another order
    }
  }
}

TEST(LayerwiseErrors, CountUnreachedOutputsAsEqual) {
  const GraphBuilder net = network();
  ErrorAnalysisOptions options;
  options.measure = Measure::Cosine;
  const auto errors = layerwise_errors(net.graph, batches(), options);
  for (const OperationError& error : errors) {
    EXPECT_GT(error.value, 0.9) << error.operation;
    EXPECT_LT(error.value, 1) << error.operation;
  }
}

TEST(GraphwiseErrors, AddUpAlongTheNetwork) {
  const GraphBuilder net = network();
  const Dataset data = batches();
  const Eager eager{net.graph};
  const AccumulatedErrors errors = graphwise_errors(net.graph, data);
  const auto want = [&](auto value) {
    return mean(data, 3, [&](const at::Tensor& x) {
      return noise(value(eager.run(x, {"first", "second", "side"}, true), true), value(eager.run(x, {}, false), false));
    });
  };
  const double first = want([](const Eager::Values&values, bool) { return values.first; }),
               relu = want([](const Eager::Values&values, bool quantized) {
                 return quantized ? rounded(at::relu(values.first)) : at::relu(values.first);
               }),
               second = want([](const Eager::Values&values, bool) { return values.second; }),
               side = want([](const Eager::Values&values, bool) { return values.side; });
  const auto check = [](const std::vector<OperationError>& got, const std::vector<double>& wanted) {
    ASSERT_EQ(got.size(), wanted.size());
    for (size_t i = 0; i < wanted.size(); ++i)
      EXPECT_NEAR(got[i].value, wanted[i], 1e-4 * wanted[i]) << got[i].operation;
  };
  check(errors.operations, {first, relu, second, side});  // every kind of operation
  check(errors.outputs, {second, side});
  EXPECT_EQ(errors.outputs[0].tensor, "second");
  // The outputs first, in decibel.
  const std::string text = to_text(errors, Measure::NoiseToSignal, 10);
  EXPECT_TRUE(text.starts_with(fmt::format("output second: SNR {:.1f} dB", -10 * std::log10(second)))) << text;
  EXPECT_NE(text.find("relu    Relu  "), std::string::npos) << text;
}

TEST(SlotStatistics, AgreeWithLibtorchOnAllValues) {
  const GraphBuilder net = network();
  const Dataset data = batches();
  const Eager eager{net.graph};
  const auto statistics = slot_statistics(net.graph, data);
  const auto found = std::find_if(statistics.begin(), statistics.end(),
                                  [](const SlotStatistics& slot) { return slot.tensor == "second" && !slot.input; });
  ASSERT_NE(found, statistics.end());
  std::vector<at::Tensor> floats, rounds;
  for (size_t batch = 0; batch < data.size(); ++batch) {
    const at::Tensor& x = data[batch].begin()->second;
    floats.push_back(eager.run(x, {}, false).second.flatten().to(at::kDouble));
    rounds.push_back(eager.run(x, {"first", "second", "side"}, true).second.flatten().to(at::kDouble));
  }
  const at::Tensor f = at::cat(floats), q = at::cat(rounds), e = q - f;
  EXPECT_NEAR(found->noise_to_signal, (e.square().sum() / (f.square().sum() + 1e-7)).item<double>(), 1e-7);
  const auto check = [](const ValueStatistics& got, const at::Tensor& values) {
    const double deviation = values.std().item<double>();
    const at::Tensor z = (values - values.mean()) / deviation;
    EXPECT_NEAR(got.mean, values.mean().item<double>(), 1e-6);
    EXPECT_NEAR(got.deviation, deviation, 1e-6);
    EXPECT_NEAR(got.skewness, z.pow(3).mean().item<double>(), 1e-5);
    EXPECT_NEAR(got.kurtosis, z.pow(4).mean().item<double>() - 3, 1e-5);
    EXPECT_NEAR(got.lowest, values.min().item<double>(), 1e-6);
    EXPECT_NEAR(got.highest, values.max().item<double>(), 1e-6);
    int64_t counted = 0;
    for (int64_t count : got.counts) counted += count;
    EXPECT_EQ(counted, values.numel());
  };
  check(found->reference, f);
  check(found->quantized, q);
  check(found->noise, e);
  const at::Tensor counts = at::histc(q, 32, q.min().item(), q.max().item());
  for (int64_t i = 0; i < 32; ++i) EXPECT_EQ(found->quantized.counts[i], counts[i].item<double>()) << i;
}

TEST(SlotStatistics, CountParametersOnce) {
  const GraphBuilder net = network();
  for (const SlotStatistics& slot : slot_statistics(net.graph, batches())) {
    if (!slot.parameter) continue;
    int64_t counted = 0;
    for (int64_t count : slot.reference.counts) counted += count;
    EXPECT_EQ(counted, net.graph.find_variable(slot.tensor)->value().numel()) << slot.tensor;
  }
}

}  // namespace
}  // namespace espq
