#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include "passes/legalize/fuse_scalar_functions.h"
#include "passes/quantize/assign_widths.h"
#include "passes/simplify/remove_dead_code.h"
#include "tests/simplify/same_function.h"
#include "tests/support/graph_builder.h"

namespace espq::test {
namespace {

using testing::ElementsAre;

/// Fuses at the width, checks that the function is the same, and tells what is left.
std::vector<std::string> types_after(GraphBuilder& net, int bits = 8) {
  assign_widths(net.graph, {.bits = bits});
  const Graph before = net.graph.clone();
  fuse_scalar_functions(net.graph);
  remove_dead_code(net.graph);
  expect_same_function(before, net.graph);
  return types(net.graph);
}

TEST(FuseScalarFunctions, HardSwishWithItsFactorAndOffsetIsOneTable) {
  GraphBuilder net;
  Variable* x = net.conv("c", net.input({1, 3, 8, 8}), 4);
  Variable* y = net.op("Mul", "scale", {net.op("HardSwish", "act", {x}), net.scalar(1.7)});
  net.output(net.op("Add", "shift", {net.scalar(-0.3), y}));
  EXPECT_THAT(types_after(net), ElementsAre("Conv", "ScalarFunction"));
  EXPECT_EQ(net.graph.outputs()[0]->producer()->name(), "shift");
  EXPECT_EQ(net.graph.outputs()[0]->producer()->width(), Width::Int8);
}

TEST(FuseScalarFunctions, ATensorThatIsReadTwiceInsideIsNoObstacle) {
  GraphBuilder net;
  Variable* x = net.op("Mul", "m", {net.conv("c", net.input({1, 3, 8, 8}), 4), net.scalar(0.5)});
  net.output(net.op("Mul", "swish", {x, net.op("Sigmoid", "gate", {x})}));
  EXPECT_THAT(types_after(net), ElementsAre("Conv", "ScalarFunction"));
}

TEST(FuseScalarFunctions, EveryFunctionOfItsVocabularyKeepsItsValues) {
  for (const auto& [type, attributes] :
       std::vector<std::pair<std::string, AttributeMap>>{{"HardSigmoid", {{"alpha", 0.25F}, {"beta", 0.4F}}},
                                                         {"HardSwish", {}},
                                                         {"Swish", {{"alpha", 1.0F}}},
                                                         {"Erf", {}},
                                                         {"Softplus", {}},
                                                         {"LeakyRelu", {{"alpha", 0.1F}}},
                                                         {"Tanh", {}},
                                                         {"Exp", {}}}) {
    GraphBuilder net;
    Variable* x = net.input({1, 3, 8, 8});
    net.output(net.op("Add", "shift", {net.op(type, "act", {x}, attributes), net.scalar(0.25)}));
    EXPECT_THAT(types_after(net), ElementsAre("ScalarFunction")) << type;
  }
}

TEST(FuseScalarFunctions, LeavesWhatOthersReadAndWhatLeavesTheNetwork) {
  GraphBuilder net;
  Variable* a = net.op("Tanh", "t", {net.input({1, 3, 8, 8})});
  Variable* b = net.op("Mul", "m", {a, net.scalar(2)});
  net.outputs({b, net.op("Add", "s", {b, net.scalar(1)}), net.conv("c", a, 2)});
  EXPECT_THAT(types_after(net), ElementsAre("Tanh", "Mul", "Conv", "Add"));
}

TEST(FuseScalarFunctions, LeavesAReluToTheLayerInFront) {
  GraphBuilder net;
  Variable* x = net.op("Relu", "r", {net.conv("c", net.input({1, 3, 8, 8}), 4)});
  net.output(net.op("Sigmoid", "s", {net.op("Mul", "m", {x, net.scalar(0.5)})}));
  EXPECT_THAT(types_after(net), ElementsAre("Conv", "Relu", "ScalarFunction"));
}

TEST(FuseScalarFunctions, LeavesSingleFunctionsAnd16Bits) {
  GraphBuilder one;
  one.output(one.op("HardSwish", "h", {one.input({1, 3, 8, 8})}));
  EXPECT_THAT(types_after(one), ElementsAre("HardSwish"));
  GraphBuilder wide;
  wide.output(wide.op("Mul", "m", {wide.op("HardSwish", "h", {wide.input({1, 3, 8, 8})}), wide.scalar(3)}));
  EXPECT_THAT(types_after(wide, 16), ElementsAre("HardSwish", "Mul"));
}

}  // namespace
}  // namespace espq::test
