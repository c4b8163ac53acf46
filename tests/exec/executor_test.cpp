#include "core/exec/executor.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/quant/fake_quantize.h"
#include "core/support/error.h"
#include "tests/support/graph_builder.h"

namespace espq {
namespace {

using ::testing::HasSubstr;

/// Conv 3x3 (padded) -> Relu -> Add with the conv result.
struct SmallNet : test::GraphBuilder {
  at::Tensor weight = at::randn({4, 2, 3, 3}), bias = at::randn({4});
  Operation *conv, *relu, *add;

  SmallNet() : GraphBuilder("esp32p4") {
    Variable* c = op("Conv", "conv", {input({1, 2, 6, 5}), constant("w", weight), constant("b", bias)},
                     {{"pads", Shape{1, 1, 1, 1}}});
    Variable* r = op("Relu", "relu", {c});
    output(op("Add", "add", {c, r}));
    conv = c->producer();
    relu = r->producer();
    add = &operation("add");
  }
  SlotQuant at_exponent(int exponent, SlotState state = SlotState::Quantizes) { return slot(8, {exponent}, -1, state); }
};

TEST(Executor, FloatEqualsLibTorch) {
  SmallNet net;
  const at::Tensor x = at::randn({1, 2, 6, 5});
  const at::Tensor c = at::conv2d(x, net.weight, net.bias, 1, 1);
  Executor executor(net.graph, Precision::Float);
  EXPECT_TRUE(at::equal(executor.run(Tensors{x})[0], c + at::relu(c)));
  // A second plan for other outputs, and the first one again.
  EXPECT_TRUE(at::equal(executor.run({{"x", x}}, {"relu"}).at("relu"), at::relu(c)));
  EXPECT_TRUE(at::equal(executor.run(Tensors{x})[0], c + at::relu(c)));
}

// Without a hook a Relu or Clip works in the memory of its operand: only where nobody else reads that, and with the
// same numbers as under a hook, which sees everything.
TEST(Executor, ClampsInPlaceWhereNobodyElseReads) {
  test::GraphBuilder net("esp32p4");
  Variable* x = net.input({1, 2, 6, 5});
  Variable* first = net.op("Relu", "first", {x});  // of the caller's own tensor
  Variable* c = net.conv("conv", first, 4);
  Variable* r = net.op("Clip", "clip",
                       {c, net.constant("low", at::scalar_tensor(-0.2)), net.constant("high", at::scalar_tensor(0.4))});
  Variable* sum = net.op("Add", "add", {c, r});
  Variable* last = net.op("Relu", "last", {sum});
  net.output(last);
  net.output(net.op("Reshape", "reshape", {r, net.integers({-1})}));
  const at::Tensor input = at::randn({1, 2, 6, 5}), given = input.clone();
  const Variable& weight = *net.operation("conv").input(1);
  const Variable* bias = net.operation("conv").input(2);
  const at::Tensor pads = at::conv2d(at::relu(input), weight.value(), bias ? bias->value() : at::Tensor(), 1,
                                     net.operation("conv").ints_attribute("pads", {0, 0, 0, 0})[0]);
  const at::Tensor clipped = at::clamp(pads, -0.2, 0.4);
  Executor executor(net.graph, Precision::Float);
  const Tensors plain = executor.run(Tensors{input});
  EXPECT_TRUE(at::equal(plain[0], at::relu(pads + clipped)));
  EXPECT_TRUE(at::equal(plain[1], clipped.flatten()));
  EXPECT_TRUE(at::equal(input, given)) << "inputs are the caller's";
  at::Tensor raw;
  executor.set_hook([&](SlotEvent& event) {
    if (event.is_output && event.operation.name() == "clip") raw = event.raw;
  });
  const Tensors watched = executor.run(Tensors{input});
  for (size_t i = 0; i < 2; ++i) EXPECT_TRUE(at::equal(watched[i], plain[i])) << i;
  EXPECT_TRUE(at::equal(raw, clipped)) << "what a hook sees is clamped";
}

/// x [1, 2, 3, 4], perhaps transposed, through a Reshape with a constant shape; with shapes recorded.
Graph reshaping_network(const std::vector<int64_t>& shape, const std::vector<int64_t>& order = {}) {
  test::GraphBuilder net;
  Variable* x = net.input({1, 2, 3, 4});
  if (!order.empty()) x = net.op("Transpose", "transpose", {x}, {{"perm", order}});
  net.output(net.op("Reshape", "reshape", {x, net.integers(shape)}));
  return std::move(net.graph);
}

TEST(Executor, ReshapesOfOneSampleTakeSeveral) {
  const at::Tensor x = at::randn({3, 2, 3, 4});
  for (const std::vector<int64_t>& shape : std::vector<std::vector<int64_t>>{
           {1, -1}, {0, -1}, {-1, 24}, {1, 2, 12}, {2, -1}, {6, 4}, {-1, 4}, {1, 1, -1, 2}}) {
    const Graph graph = reshaping_network(shape);
    Executor executor(graph, Precision::Float);
    Tensors rows;
    for (int64_t i = 0; i < 3; ++i) rows.push_back(executor.run(Tensors{x.slice(0, i, i + 1)})[0]);
    EXPECT_TRUE(at::equal(executor.run(Tensors{x})[0], at::cat(rows))) << at::IntArrayRef(shape);
  }
  // Samples that are not in front cannot be told from other axes.
  const Graph turned = reshaping_network({2, 12}, {1, 0, 2, 3});
  Executor executor(turned, Precision::Float);
  EXPECT_THROW(executor.run(Tensors{x}), UserError);
}

TEST(Executor, SimulatedQuantizesExactlyTheSlotsThatSaySo) {
  SmallNet net;
  net.conv->set_quant({net.at_exponent(-5), net.at_exponent(-6), SlotQuant{}},
                      {net.at_exponent(-4, SlotState::Carries)});
  net.relu->set_quant({net.at_exponent(-4, SlotState::Carries)}, {net.at_exponent(-4)});
  const at::Tensor x = at::randn({1, 2, 6, 5});
  const auto grid = [](const at::Tensor& value, int exponent) {
    return fake_quantize(value, {exponent}, -1, 8, Rounding::HalfEven);
  };
  const at::Tensor c = at::conv2d(grid(x, -5), grid(net.weight, -6), net.bias, 1, 1);
  Executor executor(net.graph, Precision::Simulated);
  EXPECT_TRUE(at::equal(executor.run(Tensors{x})[0], c + grid(at::relu(c), -4)));
  executor.set_dequantized([&](const Operation& operation) { return &operation == net.conv; });
  const at::Tensor f = at::conv2d(x, net.weight, net.bias, 1, 1);
  EXPECT_TRUE(at::equal(executor.run(Tensors{x})[0], f + grid(at::relu(f), -4)));
}

TEST(Executor, HooksSeeRawValuesAndMayReplaceThem) {
  SmallNet net;
  Executor executor(net.graph, Precision::Float);
  int events = 0;
  executor.set_hook([&](SlotEvent& event) {
    ++events;
    if (event.is_output && event.operation.name() == "relu") event.value = at::zeros_like(event.value);
  });
  const at::Tensor x = at::randn({1, 2, 6, 5});
  EXPECT_TRUE(at::equal(executor.run(Tensors{x})[0], at::conv2d(x, net.weight, net.bias, 1, 1)));
  EXPECT_EQ(events, 3 + 1 + 1 + 1 + 2 + 1);
}

TEST(Executor, TrainingRecordsGradientsThroughParameters) {
  SmallNet net;
  net.weight.requires_grad_();
  net.conv->set_quant({SlotQuant{}, net.at_exponent(-4), SlotQuant{}}, {SlotQuant{}});
  Executor executor(net.graph, Precision::Simulated);
  executor.set_training(true);
  executor.run(Tensors{at::randn({1, 2, 6, 5})})[0].sum().backward();
  EXPECT_TRUE(net.weight.grad().defined());
  EXPECT_GT(net.weight.grad().abs().sum().item<float>(), 0.0f);
}

TEST(Executor, RunsPartsOfTheGraph) {
  SmallNet net;
  Executor executor(net.graph, Precision::Float);
  const at::Tensor c = at::randn({1, 4, 6, 5});
  Piece piece = executor.compile({net.relu, net.add}, {net.relu->input(0)}, {net.add->output()});
  EXPECT_TRUE(at::equal(piece.run({c})[0], c + at::relu(c)));
}

TEST(Executor, ErrorsNameTheInput) {
  SmallNet net;
  Executor executor(net.graph, Precision::Float);
  const auto message = [&](const NamedTensors& inputs) -> std::string {
    try {
      executor.run(inputs, {"add"});
    } catch (const UserError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(message({{"x", at::randn({1, 3, 6, 5})}}), HasSubstr("'x': shape [1, 3, 6, 5]"));
  EXPECT_THAT(message({{"z", at::randn({1})}}), HasSubstr("'z'"));
  EXPECT_THAT(message({}), HasSubstr("'x'"));
  EXPECT_THROW(Executor(net.graph, Precision::Board).run(Tensors{at::randn({1, 2, 6, 5})}), UserError);
}

TEST(InferShapes, RecordsEveryVariable) {
  SmallNet net;
  infer_shapes(net.graph, zero_inputs(net.graph));
  for (const Variable* variable : net.graph.variables()) {
    ASSERT_TRUE(variable->shape().has_value()) << variable->name();
    EXPECT_EQ(variable->dtype(), at::kFloat);
  }
  EXPECT_EQ(*net.graph.find_variable("add")->shape(), (Shape{1, 4, 6, 5}));
}

}  // namespace
}  // namespace espq
