// Parts of a graph, what a cache may keep of one that changes, and how its slots round in training.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/exec/executor.h"
#include "core/quant/fake_quantize.h"

namespace espq {
namespace {

/// x -> Conv 1x1 (quantized: x to 2^-4, weights to 2^-6) -> c -> Relu (to 2^-3) -> y.
struct QuantizedNet {
  Graph graph;
  at::Tensor weight = at::randn({3, 2, 1, 1});
  Operation *conv, *relu;
  Variable *x, *w, *c, *y;

  QuantizedNet() {
    x = &graph.add_variable("x");
    w = &graph.add_parameter("w", weight);
    c = &graph.add_variable("c");
    y = &graph.add_variable("y");
    conv = &graph.add_operation("Conv", "conv", {x, w}, {c});
    relu = &graph.add_operation("Relu", "relu", {c}, {y});
    for (Operation* operation : graph.operations()) normalize_attributes(*operation);
    graph.set_inputs({x});
    graph.set_outputs({y});
    graph.set_target(&find_target("esp32p4"));
    conv->set_quant({slot(-4), slot(-6)}, {slot(-3, SlotState::Carries)});
    relu->set_quant({slot(-3, SlotState::Carries)}, {slot(-3)});
  }

  SlotQuant slot(int exponent, SlotState state = SlotState::Quantizes) {
    SlotQuant quant{state, 8};
    quant.scale = graph.scales().create();
    graph.scales().set_exponents(quant.scale, {exponent});
    return quant;
  }

  static at::Tensor grid(const at::Tensor& value, int exponent) {
    return fake_quantize(value, {exponent}, -1, 8, Rounding::HalfEven);
  }
  /// What the network gives, with weights on the grid of `exponent`.
  static at::Tensor answer(const at::Tensor& x, const at::Tensor& weight, int exponent) {
    return grid(at::relu(at::conv2d(grid(x, -4), grid(weight, exponent))), -3);
  }
};

TEST(Executor, NoticesEveryChangeOfItsGraph) {
  QuantizedNet net;
  const at::Tensor x = at::randn({1, 2, 4, 4});
  Executor executor(net.graph, Precision::Simulated);
  Piece piece = executor.compile({net.conv, net.relu}, {net.x}, {net.y});
  const auto expect = [&](const at::Tensor& weight, int exponent) {
    const at::Tensor want = QuantizedNet::answer(x, weight, exponent);
    EXPECT_TRUE(at::equal(executor.run(Tensors{x})[0], want));
    EXPECT_TRUE(at::equal(piece.run({x})[0], want));
  };
  expect(net.weight, -6);
  net.graph.scales().set_exponents(net.conv->input_quant()[1].scale, {-3});
  expect(net.weight, -3);
  const at::Tensor other = at::randn({3, 2, 1, 1});
  net.w->set_value(other);
  expect(other, -3);
  other.mul_(2);
  net.graph.touch();
  expect(other, -3);
}

TEST(Piece, TakesAndGivesWhatFlowsBetweenOperations) {
  QuantizedNet net;
  std::optional<Piece> front, back;
  {
    Executor executor(net.graph, Precision::Simulated);
    front = executor.compile({net.conv}, {net.x}, {net.c});
    back = executor.compile({net.relu}, {net.c}, {net.y, net.c});
  }  // pieces outlive their executor
  for (int i = 0; i < 2; ++i) {
    const at::Tensor x = at::randn({2, 2, 4, 4});
    const at::Tensor c = front->run({x})[0];
    EXPECT_TRUE(at::equal(c, at::conv2d(QuantizedNet::grid(x, -4), QuantizedNet::grid(net.weight, -6))));
    const Tensors got = back->run({c});
    EXPECT_TRUE(at::equal(got[0], QuantizedNet::grid(at::relu(c), -3)));
    EXPECT_TRUE(at::equal(got[1], c));
  }
}

TEST(Piece, HooksAndSettingsAreThoseOfItsExecutor) {
  QuantizedNet net;
  Executor executor(net.graph, Precision::Simulated);
  Piece piece = executor.compile({net.conv}, {net.x}, {net.c});
  const at::Tensor x = at::randn({1, 2, 4, 4});
  piece.run({x});
  executor.set_dequantized([](const Operation&) { return true; });
  EXPECT_TRUE(at::equal(piece.run({x})[0], at::conv2d(x, net.weight)));
  std::vector<std::string> seen;
  executor.set_hook([&](SlotEvent& event) { seen.push_back(event.operation.name() + (event.is_output ? "!" : "?")); });
  piece.run({x});
  EXPECT_EQ(seen, (std::vector<std::string>{"conv?", "conv?", "conv!"}));
}

/// Weights between two steps of their grid, as far up as a trained number says: results lie on no grid.
class LearnedOffset final : public SlotRounding {
 public:
  LearnedOffset(GridRounding plain, at::Tensor offset) : plain_(std::move(plain)), offset_(std::move(offset)) {}
  at::Tensor round(const at::Tensor& value, bool relu) const override {
    const double scale = std::ldexp(1.0, plain_.grid.exponent());
    return (at::floor((relu ? at::relu(value) : value).detach() / scale) + at::sigmoid(offset_)) * scale;
  }
  Grid grid() const override { return {}; }

 private:
  GridRounding plain_;
  at::Tensor offset_;
};

TEST(SlotRoundings, MayBeAnyonesWithoutTheExecutorKnowing) {
  QuantizedNet net;
  const at::Tensor offset = at::randn({3, 2, 1, 1}).requires_grad_(), theirs = offset.detach().clone().requires_grad_();
  Executor executor(net.graph, Precision::Simulated);
  GradientOptions options;
  int slots = 0;
  options.rounding = [&](const SlotPlace& place, const GridRounding& plain) -> std::shared_ptr<const SlotRounding> {
    ++slots;
    const bool filters = &place.operation == net.conv && !place.is_output && place.slot == 1;
    return filters ? std::make_shared<LearnedOffset>(plain, offset) : nullptr;
  };
  executor.set_training(true, options);
  const at::Tensor x = at::randn({2, 2, 4, 4});
  const at::Tensor filters = (at::floor(net.weight / std::ldexp(1.0, -6)) + at::sigmoid(theirs)) * std::ldexp(1.0, -6);
  const at::Tensor sum = at::relu(at::conv2d(QuantizedNet::grid(x, -4), filters));
  for (const bool watched : {false, true}) {  // with kernels of training, and without
    if (watched) executor.set_hook([](SlotEvent&) {});
    offset.mutable_grad().reset();
    const at::Tensor got = executor.run(Tensors{x})[0];
    EXPECT_TRUE(at::equal(got.detach(), QuantizedNet::grid(sum.detach(), -3)));
    got.sum().backward();
    theirs.mutable_grad().reset();
    sum.sum().backward({}, true);  // nothing leaves the range of the output
    EXPECT_TRUE(at::allclose(offset.grad(), theirs.grad(), 1e-5, 1e-6));
  }
  EXPECT_EQ(slots, 2 * 3);  // each slot that rounds is asked for once per compilation
}

TEST(GradientOptions, ReadParametersThatTheCallerComputes) {
  QuantizedNet net;
  const at::Tensor factor = at::tensor(1.0f).requires_grad_();
  at::Tensor computed;
  Executor executor(net.graph, Precision::Simulated);
  GradientOptions options;
  options.parameters.emplace(net.w, &computed);
  options.results.emplace(net.conv, [](const at::Tensor& result) { return result + 1; });
  executor.set_training(true, options);
  const at::Tensor x = at::randn({1, 2, 4, 4});
  for (const float value : {1.0f, 0.5f}) {
    factor.set_data(at::tensor(value));
    computed = net.weight * factor;
    const at::Tensor got = executor.run(Tensors{x})[0];
    const at::Tensor weight = QuantizedNet::grid((net.weight * value).detach(), -6);
    EXPECT_TRUE(
        at::equal(got.detach(), QuantizedNet::grid(at::relu(at::conv2d(QuantizedNet::grid(x, -4), weight) + 1), -3)));
    factor.mutable_grad().reset();
    got.sum().backward();
    EXPECT_TRUE(factor.grad().defined());
  }
}

}  // namespace
}  // namespace espq
