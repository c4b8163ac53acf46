// Layers whose sums leave the 20-bit lanes of esp32s3: all-positive weights and inputs, as after a Relu.
#include <gmock/gmock.h>

#include "core/exec/executor.h"
#include "passes/pipeline/convert.h"
#include "tests/support/graph_builder.h"

namespace espq {
namespace {

using namespace test;
Dataset positive_data(const GraphBuilder& network) {
  at::manual_seed(4);
  return Dataset({{{"", at::rand(*network.graph.inputs()[0]->shape())}}});
}

GraphBuilder all_positive_conv(int64_t channels) {
  GraphBuilder net;
  at::manual_seed(2);
  Variable* x = net.input("x", {1, channels, 8, 8});
  net.outputs({net.op("Conv", "conv", {x, net.constant("w", at::rand({16, channels, 3, 3}))},
                      {{"kernel_shape", std::vector<int64_t>{3, 3}}, {"pads", std::vector<int64_t>{1, 1, 1, 1}}})});
  return net;
}

Report quantized(GraphBuilder& net, const std::string& target, bool fit) {
  Recipe recipe;
  recipe.target = target;
  recipe.accumulators->fit = fit;
  Conversion made = convert(net.graph, positive_data(net), recipe);
  net.graph = std::move(made.quantized);
  return made.report;
}

TEST(Accumulators, WeightsAreCoarsenedUntilSumsFit) {
  GraphBuilder fitted = all_positive_conv(64), warned = all_positive_conv(64);
  const PassReport fit = *quantized(fitted, "esp32s3", true).find("fit_accumulators");
  const PassReport warn = *quantized(warned, "esp32s3", false).find("fit_accumulators");
  EXPECT_TRUE(fit.changed());
  EXPECT_TRUE(fit.warnings.empty());
  EXPECT_FALSE(warn.changed());
  ASSERT_EQ(warn.warnings.size(), 1u);
  EXPECT_THAT(warn.warnings[0], testing::HasSubstr("'conv'"));
  const int before = warned.exponents(warned.in("conv", 1))[0], after = fitted.exponents(fitted.in("conv", 1))[0];
  EXPECT_GT(after, before);
  // The largest sum, computed here from the float tensors, has to fit 20 bits at the new exponents and not one finer.
  Executor executor(fitted.graph, Precision::Float);
  const Dataset data = positive_data(fitted);
  const double largest = executor.run(data.inputs(fitted.graph, 0))[0].max().item<double>();
  const int product = fitted.exponents(fitted.in("conv"))[0] + after;
  EXPECT_LT(std::ldexp(largest, -product), 1 << 19);
  EXPECT_GT(std::ldexp(largest, -(product - 1)), 1 << 19);
}

TEST(Accumulators, OtherChipsAndSmallLayersAreLeftAlone) {
  GraphBuilder wide_lanes = all_positive_conv(64), few_channels = all_positive_conv(2);
  EXPECT_FALSE(quantized(wide_lanes, "esp32p4", true).find("fit_accumulators")->changed());
  EXPECT_FALSE(quantized(few_channels, "esp32s3", true).find("fit_accumulators")->changed());
}

TEST(Accumulators, GemmMatricesAreTakenInEitherOrder) {
  for (int64_t transposed : {0, 1}) {
    GraphBuilder net;
    at::manual_seed(2);
    const at::Tensor weight = at::rand({512, 16});
    Variable* x = net.input("x", {1, 512});
    net.outputs({net.op(
        "Gemm", "gemm",
        {x, net.constant("w", transposed ? weight.t().contiguous() : weight), net.constant("b", at::zeros({16}))},
        {{"transB", transposed}})});
    EXPECT_TRUE(quantized(net, "esp32s3", true).find("fit_accumulators")->changed()) << transposed;
    // The bias moved with the weights.
    EXPECT_EQ(net.exponents(net.in("gemm", 2))[0],
              net.exponents(net.in("gemm", 0))[0] + net.exponents(net.in("gemm", 1))[0]);
  }
}

}  // namespace
}  // namespace espq
