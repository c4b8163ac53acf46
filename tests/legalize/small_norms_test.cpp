// Norms of numbers that the kernel of the chip library cannot take.
#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <cmath>

#include "core/exec/executor.h"
#include "core/exec/float_layout.h"
#include "passes/legalize/scale_small_norms.h"
#include "passes/pipeline/check.h"
#include "passes/pipeline/convert.h"
#include "tests/support/graph_builder.h"

namespace espq::test {
namespace {

GraphBuilder norm_of(double factor) {
  GraphBuilder net;
  Variable* small = net.op("Mul", "small", {net.input("x", {1, 4, 6, 5}), net.scalar(factor)});
  net.outputs({net.op("ReduceL2", "norm", {small, net.integers({2})})});
  return net;
}

TEST(SmallNorms, AreComputedOfLargerNumbers) {
  for (const double factor : {1.0, 0.1, 1e-3}) {
    GraphBuilder net = norm_of(factor);
    const Dataset data = net.data(2);
    Recipe recipe;
    recipe.widths.bits = 16;
    const Conversion made = convert(net.graph, data, recipe);
    for (const CheckedOperation& operation : check_file(made.chip, {find_target(recipe.target)}))
      EXPECT_NE(operation.verdict, Verdict::CannotRun) << operation.name << " of " << factor;
    Executor exact(net.graph, Precision::Float), board(made.chip, Precision::Board);
    const Tensors inputs = data.inputs(net.graph, 0);
    const at::Tensor want = exact.run(inputs)[0], got = run_in_float_layout(board, made.chip, inputs)[0];
    const double noise = ((got - want).square().mean() / want.square().mean()).item<double>();
    EXPECT_LT(10 * std::log10(noise), -80) << factor;
  }
}

TEST(SmallNorms, LeavesOthersAsTheyAre) {
  for (const Width width : {Width::Int8, Width::Int16}) {
    GraphBuilder net = norm_of(width == Width::Int8 ? 1e-3 : 10);
    for (Operation* operation : net.graph.operations()) operation->set_width(width);
    EXPECT_FALSE(scale_small_norms(net.graph, net.data()).changed());
  }
}

}  // namespace
}  // namespace espq::test
