// Operations whose kernels give codes on as they are: whatever reads the result, its exponent is that of the operand.
#include <gtest/gtest.h>

#include "core/exec/executor.h"
#include "core/exec/float_layout.h"
#include "passes/pipeline/convert.h"
#include "tests/support/graph_builder.h"

namespace espq {
namespace {

using namespace test;

/// Noise over signal of what the board makes of the first batch.
double board_noise(const Graph& network, const Dataset& data, const Conversion& made) {
  const Tensors inputs = data.inputs(network, 0);
  const at::Tensor exact = Executor(network, Precision::Float).run(inputs)[0];
  Executor board(made.chip, Precision::Board);
  const at::Tensor got = run_in_float_layout(board, made.chip, inputs)[0];
  return ((got - exact).square().sum() / exact.square().sum()).item<double>();
}

TEST(PassedCodes, KeepTheirExponentInFrontOfASubtraction) {
  // The constant is ten times the data: what the subtraction computes on holds both.
  for (const char* target : {"c", "esp32s3", "esp32p4"}) {
    GraphBuilder net;
    Variable* blocks = net.op("DepthToSpace", "blocks", {net.input({1, 8, 2, 4})},
                              {{"blocksize", int64_t{2}}, {"mode", std::string("CRD")}});
    net.outputs({net.op("Sub", "difference", {blocks, net.uniform("offsets", {1, 1, 1, 8}, -30, 30)})});
    Recipe recipe;
    recipe.target = target;
    const Dataset data = net.data();
    const Conversion made = convert(net.graph, data, recipe);
    const Operation& operation = *made.quantized.find_operation("blocks");
    EXPECT_EQ(slot_exponents(made.quantized, operation.input_quant()[0]),
              slot_exponents(made.quantized, operation.output_quant()[0]))
        << target;
    // Rounding to 128 steps on either side of zero is 40 dB, read on another grid it was 5.
    EXPECT_LT(board_noise(net.graph, data, made), 1e-3) << target;
  }
}

// The Clip shares the scale of the MaxPool: moved to that of the sum it would leave the MaxPool's operand behind.
TEST(PassedCodes, KeepTheirExponentBehindAClipInFrontOfASum) {
  GraphBuilder net;
  Variable* pool =
      net.op("MaxPool", "pool", {net.input("x", {1, 4, 4, 4})}, {{"kernel_shape", std::vector<int64_t>{2, 2}}});
  Variable* clip = net.op("Clip", "clip", {pool, net.scalar(-1), net.scalar(1)});
  net.outputs({net.op("Add", "sum", {clip, net.uniform("offsets", {1, 4, 3, 3}, -30, 30)})});
  const Dataset data = net.data();
  const Conversion made = convert(net.graph, data);
  const Operation& operation = *made.quantized.find_operation("pool");
  EXPECT_EQ(slot_exponents(made.quantized, operation.input_quant()[0]),
            slot_exponents(made.quantized, operation.output_quant()[0]));
  EXPECT_LT(board_noise(net.graph, data, made), 1e-3);
}

// The last state and all states are one register of the kernel.
TEST(PassedCodes, LastStatesKeepTheExponentOfTheirCellInFrontOfASubtraction) {
  for (const int bits : {8, 16}) {
    GraphBuilder net;
    const auto cell = net.op_with_results(
        3, "LSTM", "cell",
        {net.input("x", {5, 1, 3}), net.random({1, 16, 3}), net.random({1, 16, 4}), net.random({1, 32})},
        {{"hidden_size", int64_t{4}}});
    net.outputs({net.op("Sub", "of_state", {cell[1], net.uniform("offsets", {1, 1, 4}, -30, 30)}),
                 net.op("Sub", "of_memory", {cell[2], net.uniform("more", {1, 1, 4}, -30, 30)})});
    Recipe recipe;
    recipe.widths.bits = bits;
    const Dataset data = net.data();
    const Conversion made = convert(net.graph, data, recipe);
    const auto& results = made.quantized.find_operation("cell")->output_quant();
    EXPECT_EQ(slot_exponents(made.quantized, results[0]), slot_exponents(made.quantized, results[1])) << bits;
    EXPECT_EQ(slot_exponents(made.quantized, results[2]), std::vector<int>{kGateExponent}) << bits;
    EXPECT_LT(board_noise(net.graph, data, made), 1e-3) << bits;
  }
}

}  // namespace
}  // namespace espq
