// GRU and LSTM in float against LibTorch's own cells, whose gates come in another order. The chip's arithmetic is
// refereed by the board cases.
#include <gtest/gtest.h>

#include "core/support/error.h"
#include "tests/ops/node_run.h"

using namespace espq;

namespace {

constexpr int64_t kInputs = 5, kHidden = 3, kSteps = 4, kBatch = 2;

/// Rows of the gates in LibTorch's order.
at::Tensor reordered(const at::Tensor& rows, const std::vector<int64_t>& order) {
  const auto gates = rows.chunk(static_cast<int64_t>(order.size()), 0);
  Tensors result;
  for (const int64_t gate : order) result.push_back(gates[gate]);
  return at::cat(result, 0);
}

/// Weights of all directions as at::gru and at::lstm take them.
Tensors torch_weights(const Tensors& in, const std::vector<int64_t>& order) {
  Tensors result;
  const int64_t half = in[3].size(1) / 2;
  for (int64_t d = 0; d < in[1].size(0); ++d) {
    for (const at::Tensor& part : {in[1][d], in[2][d], in[3][d].narrow(0, 0, half), in[3][d].narrow(0, half, half)})
      result.push_back(reordered(part, order));
  }
  return result;
}

/// X, W, R, B, no lengths, initial_h (and initial_c).
Tensors operands(int64_t gates, int64_t directions) {
  at::manual_seed(gates * 10 + directions);
  Tensors in = {at::randn({kSteps, kBatch, kInputs}),
                at::randn({directions, gates * kHidden, kInputs}),
                at::randn({directions, gates * kHidden, kHidden}),
                at::randn({directions, 2 * gates * kHidden}),
                {},
                at::randn({directions, kBatch, kHidden})};
  if (gates == 4) in.push_back(at::randn({directions, kBatch, kHidden}));
  return in;
}

/// LibTorch joins the directions in the last axis, ONNX keeps them apart.
at::Tensor split_directions(const at::Tensor& y, int64_t directions) {
  return y.reshape({kSteps, kBatch, directions, kHidden}).transpose(1, 2);
}

void expect_close(const at::Tensor& got, const at::Tensor& want) {
  EXPECT_EQ(got.sizes(), want.sizes());
  EXPECT_TRUE(at::allclose(got, want, 1e-4, 1e-5));
}

}  // namespace

TEST(GruForward, EqualsLibTorch) {
  for (const int64_t directions : {1, 2}) {
    const Tensors in = operands(3, directions);
    const AttributeMap attributes = {{"direction", std::string(directions == 2 ? "bidirectional" : "forward")},
                                     {"linear_before_reset", int64_t{1}}};
    const Tensors got = run_node("GRU", in, attributes, false, 2);
    const auto [y, h] =
        at::gru(in[0], in[5], torch_weights(in, {1, 0, 2}), true, 1, 0.0, false, directions == 2, false);
    expect_close(got[0], split_directions(y, directions));
    expect_close(got[1], h);
  }
}

// linear_before_reset = 0 resets the state before the recurrence is applied; written out for one step.
TEST(GruForward, ResetBeforeTheRecurrence) {
  const Tensors in = operands(3, 1);
  const at::Tensor x = in[0][0], h = in[5][0], w = in[1][0], r = in[2][0], b = in[3][0];
  const auto gate = [&](int64_t index, const at::Tensor& state) {
    const at::Tensor rows = w.narrow(0, index * kHidden, kHidden), hidden = r.narrow(0, index * kHidden, kHidden);
    return x.matmul(rows.t()) + state.matmul(hidden.t()) + b.narrow(0, index * kHidden, kHidden) +
           b.narrow(0, (3 + index) * kHidden, kHidden);
  };
  const at::Tensor z = at::sigmoid(gate(0, h)), n = at::tanh(gate(2, at::sigmoid(gate(1, h)) * h));
  Tensors first = in;
  first[0] = in[0].narrow(0, 0, 1);
  expect_close(run_node("GRU", first, {}, false, 2)[1][0], (1 - z) * n + z * h);
}

TEST(LstmForward, EqualsLibTorch) {
  for (const int64_t directions : {1, 2}) {
    const Tensors in = operands(4, directions);
    const AttributeMap attributes = {{"direction", std::string(directions == 2 ? "bidirectional" : "forward")}};
    const Tensors got = run_node("LSTM", in, attributes, false, 3);
    const Tensors states = {in[5], in[6]};
    const auto [y, h, c] =
        at::lstm(in[0], states, torch_weights(in, {0, 2, 3, 1}), true, 1, 0.0, false, directions == 2, false);
    expect_close(got[0], split_directions(y, directions));
    expect_close(got[1], h);
    expect_close(got[2], c);
  }
}

TEST(LstmForward, ReverseIsTheForwardCellOnReversedTime) {
  const Tensors in = operands(4, 1);
  Tensors flipped = in;
  flipped[0] = in[0].flip(0);
  const Tensors want = run_node("LSTM", flipped, {}, false, 3);
  const Tensors got = run_node("LSTM", in, {{"direction", std::string("reverse")}}, false, 3);
  expect_close(got[0], want[0].flip(0));
  expect_close(got[2], want[2]);
}

TEST(LstmForward, BatchFirstLayoutAndMissingStates) {
  Tensors in = operands(4, 1);
  in.resize(4);
  const Tensors want = run_node("LSTM", in, {}, false, 3);
  in[0] = in[0].transpose(0, 1);
  const Tensors got = run_node("LSTM", in, {{"layout", int64_t{1}}}, false, 3);
  expect_close(got[0], want[0].permute({2, 0, 1, 3}));
  expect_close(got[1], want[1].transpose(0, 1));
}

TEST(Recurrent, RefusesWhatItDoesNotCompute) {
  Tensors in = operands(3, 1);
  EXPECT_THROW(run_node("GRU", in, {{"activations", std::vector<std::string>{"Relu", "Tanh"}}}, false, 2), UserError);
  in[4] = at::tensor({kSteps, kSteps - 1}, at::kInt);
  EXPECT_THROW(run_node("GRU", in, {}, false, 2), UserError);
  const Grid grid{8, {-5}};
  BoardNode node{.type = "GRU", .inputs = {grid, grid, grid, {16, {-9}}, {}, grid}, .outputs = {grid, grid}};
  EXPECT_THROW(node(operands(3, 1)), UserError);  // linear_before_reset = 0
  node.attributes = {{"linear_before_reset", int64_t{1}}, {"direction", std::string("reverse")}};
  EXPECT_THROW(node(operands(3, 1)), UserError);
}
