#include "core/analysis/compare.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/support/error.h"
#include "export/espdl/convert.h"
#include "passes/lowering/lower.h"
#include "tests/support/graph_builder.h"

namespace espq {
namespace {

using namespace test;
using ::testing::HasSubstr;

/// Channels, height and width are one size: only structure and values tell the layouts apart.
GraphBuilder network(int64_t channels = 8, int64_t size = 8) {
  at::manual_seed(5);
  GraphBuilder net("esp32p4");
  Variable* x = net.input("x", {1, channels, size, size});
  Operation& first = *net.quantized_conv("first", x, channels, 3)->producer();
  Operation& second = *net.quantized_conv("second", first.output(), channels)->producer();
  for (Operation* operation : {&first, &second})
    net.graph.scales().set_exponents(operation->output_quant()[0].scale, {-1});
  net.graph.scales().set_exponents(second.input_quant()[0].scale, {-1});
  net.outputs({second.output()});
  return net;
}

Dataset batches(int64_t samples, int64_t channels, int64_t size, int count) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(9);
  std::vector<Dataset::Batch> result;
  result.reserve(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) result.push_back({{"x", at::randn({samples, channels, size, size}, generator) * 2}});
  return Dataset(std::move(result));
}

/// As a file gives it: nothing says how its layout came from the model's.
Graph as_file(const Graph& chip) { return from_model(to_model(chip), *chip.target()); }

/// LibTorch's formula on what the executors give, without compare().
double noise_to_signal(const Graph& net, const Graph& chip, const Dataset& data, const std::string& name) {
  double sum = 0;
  int64_t samples = 0;
  for (size_t batch = 0; batch < data.size(); ++batch) {
    for (const at::Tensor& sample : data[batch].begin()->second.split(1)) {
      const at::Tensor want = Executor(net, Precision::Float).run({{"x", sample}}, {name}).at(name).to(at::kDouble);
      const at::Tensor codes =
          Executor(chip, Precision::Board).run({{"x", sample.permute({0, 2, 3, 1}).contiguous()}}, {name}).at(name);
      const at::Tensor got = codes.permute({0, 3, 1, 2}).to(at::kDouble) * 0.5;
      sum += ((got - want).square().sum() / (want.square().sum() + 1e-7)).item<double>();
      ++samples;
    }
  }
  return sum / static_cast<double>(samples);
}

TEST(Compare, MapsTheLayoutOfAFile) {
  for (const auto& [channels, size] : {std::pair<int64_t, int64_t>{8, 8}, {4, 6}}) {
    const GraphBuilder net = network(channels, size);
    const Graph chip = lower(net.graph), file = as_file(chip);
    const Dataset data = batches(1, channels, size, 3);
    for (const Graph* graph : {&chip, &file}) {
      const Comparison got = compare({net.graph, Precision::Float}, {*graph, Precision::Board}, data);
      EXPECT_EQ(got.samples, 3u);
      ASSERT_EQ(got.outputs.size(), 1u);
      ASSERT_EQ(got.layers.size(), 2u);
      EXPECT_TRUE(got.unmatched.empty());
      for (size_t i = 0; i < 2; ++i)
        EXPECT_NEAR(got.layers[i].noise_to_signal, noise_to_signal(net.graph, file, data, got.layers[i].name), 1e-9);
      EXPECT_LT(got.layers[0].noise_to_signal, 0.1);
      EXPECT_EQ(got.outputs[0].grid->exponent, -1);
    }
  }
}

TEST(Compare, CutsBatchesForTheChip) {
  const GraphBuilder net = network();
  const Graph chip = lower(net.graph);
  const Dataset data = batches(4, 8, 8, 2);
  const Comparison got = compare({net.graph, Precision::Float}, {chip, Precision::Board}, data);
  EXPECT_EQ(got.batches, 2u);
  EXPECT_EQ(got.samples, 8u);
  EXPECT_NEAR(got.outputs[0].noise_to_signal, noise_to_signal(net.graph, chip, data, "second"), 1e-9);
}

TEST(Compare, TakesAsManyBatchesAsAsked) {
  const GraphBuilder net = network();
  CompareOptions options;
  options.batches = 2;
  options.per_layer = false;
  const Comparison got =
      compare({net.graph, Precision::Float}, {net.graph, Precision::Simulated}, batches(1, 8, 8, 5), options);
  EXPECT_EQ(got.batches, 2u);
  EXPECT_EQ(got.outputs[0].elements, 2 * 512);
  EXPECT_TRUE(got.layers.empty());
}

TEST(Compare, FindsNoDifferenceWhereThereIsNone) {
  const GraphBuilder net = network();
  const Graph chip = lower(net.graph);
  // One sum of products, one rounding: the simulation is exact here.
  const Comparison got = compare({net.graph, Precision::Simulated}, {chip, Precision::Board}, batches(1, 8, 8, 2));
  EXPECT_EQ(got.outputs[0].different, 0);
  EXPECT_FALSE(got.first_difference);
  EXPECT_EQ(got.outputs[0].cause, Cause::None);
}

TEST(Compare, FindsWhereTheyPart) {
  GraphBuilder net = network();
  const Graph whole = lower(net.graph);
  // Another weight in the second layer.
  Variable& weight = *net.graph.find_variable("second.weight");
  weight.set_value(weight.value().clone());
  weight.value()[0].fill_(1);
  const Graph changed = lower(net.graph);
  const Comparison got = compare({whole, Precision::Board}, {changed, Precision::Board}, batches(1, 8, 8, 2));
  ASSERT_TRUE(got.first_difference);
  EXPECT_EQ(got.layers[*got.first_difference].name, "second");
  EXPECT_EQ(got.layers[0].different, 0);
}

TEST(Compare, RefusesDataThatDoNotFit) {
  const GraphBuilder net = network();
  const Graph chip = lower(net.graph);
  const auto run = [&](const Dataset& data) { compare({net.graph, Precision::Float}, {chip, Precision::Board}, data); };
  EXPECT_THROW(run(Dataset()), UserError);
  EXPECT_THROW(run(batches(1, 8, 7, 1)), UserError);
  EXPECT_THROW(run(Dataset({{{"y", at::zeros({1, 8, 8, 8})}}})), UserError);
}

at::Tensor rounded(const at::Tensor& value, int exponent) {
  const double step = std::ldexp(1.0, exponent);
  return at::clamp(at::round(value / step), -128, 127) * step;
}

TEST(Compare, RunsEveryLayerAloneOnTheReference) {
  const GraphBuilder net = network();
  const Dataset data = batches(1, 8, 8, 3);
  const Comparison got = compare({net.graph, Precision::Float}, {as_file(lower(net.graph)), Precision::Board}, data);
  const at::Tensor first = net.graph.find_variable("first.weight")->value(),
                   second = net.graph.find_variable("second.weight")->value();
  // The weights are on their grid, so that LibTorch's float sums are the chip's integers.
  double own_first = 0, own_second = 0;
  for (size_t batch = 0; batch < data.size(); ++batch) {
    const auto noise = [](const at::Tensor& q, const at::Tensor& f) {
      return ((q - f).square().sum() / (f.square().sum() + 1e-7)).item<double>();
    };
    const at::Tensor& x = data[batch].begin()->second;
    const at::Tensor one = at::conv2d(x, first, {}, 1, 1), two = at::conv2d(one, second);
    own_first += noise(rounded(at::conv2d(rounded(x, -4), first, {}, 1, 1), -1), one) / 3;
    own_second += noise(rounded(at::conv2d(rounded(one, -1), second), -1), two) / 3;
  }
  EXPECT_NEAR(got.layers[0].own->noise_to_signal, own_first, 1e-4 * own_first);
  EXPECT_NEAR(got.layers[1].own->noise_to_signal, own_second, 1e-4 * own_second);
  EXPECT_NE(own_second, got.layers[1].noise_to_signal);
}

TEST(Compare, FindsTheTensorThatForcesACoarseStep) {
  at::manual_seed(6);
  GraphBuilder net("esp32p4");
  Variable* x = net.input("x", {1, 8, 8, 8});
  Operation& large = *net.quantized_conv("large", x, 4)->producer();
  Operation& small = *net.quantized_conv("small", x, 4)->producer();
  small.input(1)->set_value(at::full({4, 8, 1, 1}, 1.0 / 16));
  Operation& both =
      *net.quantized("Concat", "both", {large.output(), small.output()}, {{"axis", int64_t{1}}})->producer();
  for (const SlotQuant& slot : {large.output_quant()[0], small.output_quant()[0], both.input_quant()[0],
                                both.input_quant()[1], both.output_quant()[0]})
    net.graph.scales().set_exponents(slot.scale, {0});
  net.outputs({both.output()});
  const Comparison got =
      compare({net.graph, Precision::Float}, {lower(net.graph), Precision::Board}, batches(1, 8, 8, 2));
  const auto found = std::find_if(got.layers.begin(), got.layers.end(),
                                  [](const TensorError& layer) { return layer.name == "small"; });
  ASSERT_NE(found, got.layers.end());
  EXPECT_EQ(found->cause, Cause::Alignment) << found->explanation;
  EXPECT_THAT(found->explanation, HasSubstr("same exponent needs coarser steps"));
  EXPECT_LT(found->grid->needed_exponent, 0);
}

TEST(Compare, TellsClippingFromRounding) {
  GraphBuilder net = network();
  const Dataset data = batches(1, 8, 8, 2);
  const auto causes = [&](int exponent) {
    for (const char* name : {"first", "second"}) {
      const Operation& operation = *net.graph.find_operation(name);
      net.graph.scales().set_exponents(operation.output_quant()[0].scale, {exponent});
      if (operation.name() == "second") net.graph.scales().set_exponents(operation.input_quant()[0].scale, {exponent});
    }
    return compare({net.graph, Precision::Float}, {lower(net.graph), Precision::Board}, data).layers;
  };
  const auto clipped = causes(-5);
  EXPECT_EQ(clipped[0].cause, Cause::Clipping);
  EXPECT_GT(clipped[0].grid->needed_exponent, -5);
  EXPECT_THAT(clipped[0].explanation, HasSubstr("beyond the range of 8 bits at 2^-5"));
  const auto coarse = causes(2);
  EXPECT_EQ(coarse[0].cause, Cause::Resolution);
  EXPECT_LT(coarse[0].grid->needed_exponent, 2);
}

}  // namespace
}  // namespace espq
