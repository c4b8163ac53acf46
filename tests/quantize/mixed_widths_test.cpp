#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include "core/exec/executor.h"
#include "core/ops/operator.h"
#include "core/support/error.h"
#include "passes/pipeline/convert.h"

namespace espq {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

/// Conv, depthwise Conv, Relu; the Relu goes into the Conv in front of it.
Graph network() {
  at::manual_seed(2);
  Graph graph;
  const auto value = [&](const char* name, Shape shape) -> Variable& {
    Variable& added = graph.add_variable(name);
    added.set_shape(std::move(shape));
    return added;
  };
  Variable &x = value("x", {1, 2, 6, 6}), &a = value("a", {1, 4, 6, 6}), &b = value("b", {1, 4, 6, 6}),
           &y = value("y", {1, 4, 6, 6});
  graph.add_input(x);
  graph.add_output(y);
  Variable &whole = graph.add_parameter("whole", at::randn({4, 2, 1, 1})),
           &single = graph.add_parameter("single", at::randn({4, 1, 1, 1}));
  graph.add_operation("Conv", "conv", {&x, &whole, &graph.add_parameter("bias", at::randn({4}))}, {&a});
  graph.add_operation("Conv", "depthwise", {&a, &single}, {&b}, {{"group", int64_t{4}}});
  graph.add_operation("Relu", "relu", {&b}, {&y});
  for (Operation* operation : graph.operations()) normalize_attributes(*operation);
  return graph;
}

Dataset data() {
  at::manual_seed(4);
  return Dataset({{{"x", at::randn({1, 2, 6, 6})}}});
}

Recipe mixed(RuntimeLevel level) {
  Recipe recipe;
  recipe.layers["*"].width = Width::Int16Weights8;
  recipe.lowering.runtime_level = level;
  return recipe;
}

TEST(MixedWidths, WeightsOfOneGroupHaveEightBitsUnderSixteen) {
  const Conversion made = convert(network(), data(), mixed(RuntimeLevel::Newer));
  const Operation &conv = *made.quantized.find_operation("conv"),
                  &depthwise = *made.quantized.find_operation("depthwise");
  EXPECT_EQ(conv.width(), Width::Int16Weights8);
  EXPECT_EQ(conv.input_quant()[0].bits, 16);
  EXPECT_EQ(conv.input_quant()[1].bits, 8);
  EXPECT_EQ(conv.output_quant()[0].bits, 16);
  EXPECT_EQ(depthwise.width(), Width::Int16);
  EXPECT_EQ(depthwise.input_quant()[1].bits, 16);
  const Operation& lowered = *made.chip.find_operation("conv");
  EXPECT_EQ(lowered.chip().kernels, Width::Int16Weights8);
  EXPECT_EQ(lowered.input(1)->value().scalar_type(), at::kChar);
  EXPECT_EQ(lowered.output()->storage()->dtype, at::kShort);
  for (const Operation* operation : made.chip.operations())
    EXPECT_NE(operation->type(), "RequantizeLinear") << "all activations have one width";
}

TEST(MixedWidths, StayCloseToTheFloatNetwork) {
  const Conversion made = convert(network(), data(), mixed(RuntimeLevel::Newer));
  const at::Tensor x = data()[0].at("x");
  const at::Tensor simulated = Executor(made.quantized, Precision::Simulated).run({x}).at(0);
  const at::Tensor wide = Executor(network(), Precision::Float).run({x}).at(0);
  EXPECT_LT((simulated - wide).abs().max().item<double>(), 0.05 * wide.abs().max().item<double>());
  EXPECT_GT((simulated - wide).abs().max().item<double>(), 0);
}

TEST(MixedWidths, ChipLibrary339HasNone) {
  EXPECT_THAT([] { convert(network(), data(), mixed(RuntimeLevel::V3_3_9)); },
              ThrowsMessage<UserError>(AllOf(HasSubstr("Conv 'conv'"), HasSubstr("3.3.9 has no w8a16 kernel"))));
  Recipe allowed = mixed(RuntimeLevel::V3_3_9);
  allowed.widths.check_kernels = false;
  EXPECT_THAT([&] { convert(network(), data(), allowed); },
              ThrowsMessage<UserError>(AllOf(HasSubstr("conv"), HasSubstr("newer runtime level"))));
}

}  // namespace
}  // namespace espq
