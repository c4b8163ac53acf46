#include <gmock/gmock.h>

#include <cmath>

#include "parity/format.h"
#include "passes/simplify/fuse_gelu.h"
#include "passes/simplify/fuse_hard_activations.h"
#include "passes/simplify/fuse_layer_normalization.h"
#include "passes/simplify/fuse_log_softmax.h"
#include "passes/simplify/fuse_lp_normalization.h"
#include "passes/simplify/fuse_rms_normalization.h"
#include "passes/simplify/fuse_swish.h"
#include "passes/simplify/remove_dead_code.h"
#include "tests/simplify/same_function.h"
#include "tests/support/graph_builder.h"

namespace espq {
namespace {

using namespace test;
using testing::ElementsAre;
using Build = std::function<Variable*(GraphBuilder&, Variable*)>;

Variable* binary(GraphBuilder& net, const char* type, Variable* x, double value) {
  return net.op(type, {x, net.scalar(value)});
}
Variable* clip(GraphBuilder& net, Variable* x, double low, double high) {
  return net.op("Clip", {x, net.scalar(low), net.scalar(high)});
}
Variable* plus3(GraphBuilder& net, Variable* x) { return binary(net, "Add", x, 3); }
Variable* relu6(GraphBuilder& net, Variable* x) { return clip(net, x, 0, 6); }

/// Builds Relu, `build`, runs the pass and returns the types behind the Relu; the function must not change.
template <typename Pass>
std::vector<std::string> fused(const Build& build, Pass&& pass, const Shape& shape = {2, 3, 4, 5},
                               double tolerance = kRounding) {
  GraphBuilder net;
  Variable* x = net.op("Neg", {net.input(shape)});
  net.output(build(net, x));
  const Graph before = net.graph.clone();
  pass(net.graph);
  remove_dead_code(net.graph);
  auto found = types(net.graph);
  found.erase(found.begin());
  expect_same_function(before, net.graph, tolerance);
  return found;
}

// ------------------------------------------------------------------------------------------------ Swish, LogSoftmax
TEST(FuseSwish, BothOrders) {
  const auto pass = [](Graph& graph) { fuse_swish(graph); };
  EXPECT_THAT(fused(
                  [](GraphBuilder& n, Variable* x) {
                    return n.op("Mul", {n.op("Sigmoid", {x}), x});
                  },
                  pass),
              ElementsAre("Swish"));
  EXPECT_THAT(fused(
                  [](GraphBuilder& n, Variable* x) {
                    return n.op("Mul", {x, n.op("Sigmoid", {x})});
                  },
                  pass),
              ElementsAre("Swish"));
}

TEST(FuseSwish, RefusesOtherReadersAndOutputs) {
  GraphBuilder net;
  Variable* x = net.input({3});
  Variable* a = net.op("Sigmoid", {x});
  net.output(net.op("Mul", {x, a}));
  net.output(a);
  Variable* b = net.op("Sigmoid", {x});
  net.output(net.op("Mul", {x, b}));
  net.output(net.op("Relu", {b}));
  net.output(net.op("Mul", {net.op("Relu", {x}), net.op("Sigmoid", {x})}));
  EXPECT_FALSE(fuse_swish(net.graph).changed());
}

TEST(FuseSwish, LikeIncumbentNamesAndOrder) {
  GraphBuilder net;
  Variable* x = net.op("Relu", "front", {net.input({3})});
  net.output(net.op("Neg", "back", {net.op("Mul", "m", {x, net.op("Sigmoid", "s", {x})})}));
  Variable* y = net.input("y", {3});
  net.output(net.op("Mul", {y, net.op("Sigmoid", "t", {y})}));
  format_like_incumbent(net.graph);
  std::vector<std::string> names;
  for (const Operation* operation : net.graph.operations()) names.push_back(operation->name());
  EXPECT_THAT(names, ElementsAre("front", "back", "front/Swish", "t/Swish"));
}

TEST(FuseLogSoftmax, KeepsTheAxis) {
  const auto pass = [](Graph& graph) { fuse_log_softmax(graph); };
  EXPECT_THAT(fused(
                  [](GraphBuilder& n, Variable* x) {
                    return n.op("Log", {n.op("Softmax", {x}, {{"axis", int64_t{1}}})});
                  },
                  pass),
              ElementsAre("LogSoftmax"));
}

// ------------------------------------------------------------------------------------------------ HardSwish,
// HardSigmoid
const auto hard = [](Graph& graph) { fuse_hard_activations(graph); };

TEST(FuseHardActivations, HardSwishSpellings) {
  const std::vector<Build> spellings{
      [](GraphBuilder& n, Variable* x) {
        return binary(n, "Div", n.op("Mul", {x, relu6(n, plus3(n, x))}), 6);
      },
      [](GraphBuilder& n, Variable* x) {
        return binary(n, "Mul", n.op("Mul", {relu6(n, plus3(n, x)), x}), 1.0 / 6);
      },
      [](GraphBuilder& n, Variable* x) {
        return n.op("Mul", {x, binary(n, "Div", relu6(n, plus3(n, x)), 6)});
      },
      [](GraphBuilder& n, Variable* x) {
        return n.op("Mul", {binary(n, "Mul", relu6(n, plus3(n, x)), 0.16666667), x});
      },
      [](GraphBuilder& n, Variable* x) {
        return n.op("Mul", {binary(n, "Div", x, 6), relu6(n, plus3(n, x))});
      },
      [](GraphBuilder& n, Variable* x) {
        return n.op("Mul", {n.op("HardSigmoid", {x}, {{"alpha", 1.0F / 6}, {"beta", 0.5F}}), x});
      },
      [](GraphBuilder& n, Variable* x) {
        return n.op("Mul", {x, clip(n, binary(n, "Add", binary(n, "Div", x, 6), 0.5), 0, 1)});
      },
      [](GraphBuilder& n, Variable* x) {
        return binary(n, "Div", n.op("Mul", {x, n.op("Min", {n.op("Relu", {plus3(n, x)}), n.scalar(6)})}), 6);
      },
      [](GraphBuilder& n, Variable* x) {
        Variable* ramp = n.op("Max", {n.op("Min", {n.scalar(6), plus3(n, x)}), n.scalar(0)});
        return binary(n, "Div", n.op("Mul", {x, ramp}), 6);
      },
      [](GraphBuilder& n, Variable* x) {
        return binary(n, "Div", n.op("Mul", {x, relu6(n, binary(n, "Sub", x, -3))}), 6);
      },
  };
  for (size_t i = 0; i < spellings.size(); ++i) EXPECT_THAT(fused(spellings[i], hard), ElementsAre("HardSwish")) << i;
}

TEST(FuseHardActivations, HardSigmoidSpellings) {
  const std::vector<Build> spellings{
      [](GraphBuilder& n, Variable* x) { return binary(n, "Div", relu6(n, plus3(n, x)), 6); },
      [](GraphBuilder& n, Variable* x) { return binary(n, "Mul", relu6(n, plus3(n, x)), 1.0 / 6); },
      [](GraphBuilder& n, Variable* x) { return clip(n, binary(n, "Add", binary(n, "Mul", x, 0.2), 0.5), 0, 1); },
      [](GraphBuilder& n, Variable* x) { return clip(n, binary(n, "Div", plus3(n, x), 6), 0, 1); },
  };
  for (size_t i = 0; i < spellings.size(); ++i) EXPECT_THAT(fused(spellings[i], hard), ElementsAre("HardSigmoid")) << i;
}

TEST(FuseHardActivations, RefusesOtherNumbers) {
  const std::vector<Build> others{
      [](GraphBuilder& n, Variable* x) {
        return binary(n, "Div", n.op("Mul", {x, relu6(n, plus3(n, x))}), 5);
      },
      [](GraphBuilder& n, Variable* x) {
        return binary(n, "Div", n.op("Mul", {x, relu6(n, binary(n, "Add", x, 2))}), 6);
      },
      [](GraphBuilder& n, Variable* x) {
        return binary(n, "Div", n.op("Mul", {x, clip(n, plus3(n, x), 0, 5)}), 6);
      },
      [](GraphBuilder& n, Variable* x) {
        return binary(n, "Div", n.op("Mul", {x, clip(n, plus3(n, x), -1, 6)}), 6);
      },
      [](GraphBuilder& n, Variable* x) {
        return binary(n, "Div", n.op("Mul", {n.op("Abs", {x}), relu6(n, plus3(n, x))}), 6);
      },
      [](GraphBuilder& n, Variable* x) { return binary(n, "Mul", relu6(n, plus3(n, x)), -1.0 / 6); },
      [](GraphBuilder& n, Variable* x) { return clip(n, x, 0, 1); },
      [](GraphBuilder& n, Variable* x) { return n.op("Relu", {plus3(n, x)}); },
  };
  for (size_t i = 0; i < others.size(); ++i) {
    const auto found = fused(others[i], hard);
    EXPECT_THAT(found, testing::Not(testing::Contains(testing::AnyOf("HardSwish", "HardSigmoid")))) << i;
  }
}

TEST(FuseHardActivations, RefusesInteriorOutputs) {
  GraphBuilder net;
  Variable* x = net.input({4});
  Variable* ramp = relu6(net, plus3(net, x));
  net.output(binary(net, "Div", net.op("Mul", {x, ramp}), 6));
  net.output(ramp);
  EXPECT_FALSE(fuse_hard_activations(net.graph).changed());
}

TEST(FuseHardActivations, RefusesScalarsThatAddDimensions) {
  GraphBuilder net;
  Variable* x = net.input({4});
  net.output(net.op("Div", {relu6(net, plus3(net, x)), net.constant(at::full({1, 1}, 6.0))}));
  const Graph before = net.graph.clone();
  EXPECT_FALSE(fuse_hard_activations(net.graph).changed());
}

// ------------------------------------------------------------------------------------------------ Gelu
TEST(FuseGelu, Spellings) {
  const auto pass = [](Graph& graph) { fuse_gelu(graph); };
  const auto sum = [](GraphBuilder& n, Variable* x) {
    return binary(n, "Add", n.op("Erf", {binary(n, "Div", x, std::sqrt(2.0))}), 1);
  };
  const std::vector<Build> spellings{
      [&](GraphBuilder& n, Variable* x) {
        return binary(n, "Mul", n.op("Mul", {x, sum(n, x)}), 0.5);
      },
      [&](GraphBuilder& n, Variable* x) {
        return n.op("Mul", {binary(n, "Mul", x, 0.5), sum(n, x)});
      },
      [&](GraphBuilder& n, Variable* x) {
        return n.op("Mul", {x, binary(n, "Mul", sum(n, x), 0.5)});
      },
      [&](GraphBuilder& n, Variable* x) {
        return binary(n, "Div", n.op("Mul", {sum(n, x), x}), 2);
      },
      [&](GraphBuilder& n, Variable* x) {
        return n.op("Mul",
                    {x, binary(n, "Add", binary(n, "Mul", n.op("Erf", {binary(n, "Mul", x, 0.70710678)}), 0.5), 0.5)});
      },
  };
  for (size_t i = 0; i < spellings.size(); ++i) EXPECT_THAT(fused(spellings[i], pass), ElementsAre("Gelu")) << i;
  const auto other = fused(
      [](GraphBuilder& n, Variable* x) {
        return binary(n, "Mul", n.op("Mul", {x, binary(n, "Add", n.op("Erf", {x}), 1)}), 0.5);
      },
      pass);
  EXPECT_THAT(other, testing::Not(testing::Contains("Gelu")));
}

TEST(FuseGelu, TanhForm) {
  const auto pass = [](Graph& graph) { fuse_gelu(graph); };
  const auto build = [](double cubic, const std::function<Variable*(GraphBuilder&, Variable*)>& cube) -> Build {
    return [=](GraphBuilder& n, Variable* x) {
      Variable* inside = binary(n, "Mul", n.op("Add", {x, binary(n, "Mul", cube(n, x), cubic)}), 0.7978845608);
      return n.op("Mul", {binary(n, "Mul", x, 0.5), binary(n, "Add", n.op("Tanh", {inside}), 1)});
    };
  };
  const auto power = [](GraphBuilder& n, Variable* x) { return binary(n, "Pow", x, 3); };
  const auto product = [](GraphBuilder& n, Variable* x) { return n.op("Mul", {x, n.op("Mul", {x, x})}); };
  const auto square = [](GraphBuilder& n, Variable* x) { return n.op("Mul", {x, x}); };
  EXPECT_THAT(fused(build(0.044715, power), pass), ElementsAre("Gelu"));
  EXPECT_THAT(fused(build(0.044715, product), pass), ElementsAre("Gelu"));
  EXPECT_THAT(fused(build(0.05, power), pass), testing::Not(testing::Contains("Gelu")));
  EXPECT_THAT(fused(build(0.044715, square), pass), testing::Not(testing::Contains("Gelu")));
}

// ------------------------------------------------------------------------------------------------ normalizations
/// Without axes: a pool over all behind the second.
Variable* mean(GraphBuilder& net, Variable* x, const Shape& axes, int64_t keep = 1) {
  if (axes.empty()) return net.op("GlobalAveragePool", {x});
  return net.op("ReduceMean", {x, net.integers(axes)}, {{"keepdims", keep}});
}

Variable* layer_norm(GraphBuilder& n, Variable* x, const Shape& axes, double exponent, bool affine) {
  Variable* d = n.op("Sub", {x, mean(n, x, axes)});
  Variable* square = exponent == 0 ? n.op("Mul", {d, d}) : n.op("Pow", {d, n.scalar(exponent)});
  Variable* y = n.op("Div", {d, n.op("Sqrt", {binary(n, "Add", mean(n, square, axes), 1e-5)})});
  if (!affine) return y;
  Shape shape(x->shape() ? axes.size() : 1, 1);
  shape.back() = 5;
  return n.op("Add", {n.op("Mul", {y, n.random(shape)}), n.random({5})});
}

TEST(FuseLayerNormalization, WithAndWithoutGain) {
  const auto pass = [](Graph& graph) { EXPECT_EQ(fuse_layer_normalization(graph).total(), 1); };
  for (const double exponent : {0.0, 2.0})
    for (const bool affine : {false, true})
      for (const Shape& axes : {Shape{-1}, Shape{3}, Shape{2, 3}, Shape{-1, -2}})
        EXPECT_THAT(fused([&](GraphBuilder& n, Variable* x) { return layer_norm(n, x, axes, exponent, affine); }, pass),
                    ElementsAre("LayerNormalization"));
}

/// x * factor + (offset - mean * factor), as Keras spells it.
Variable* folded_layer_norm(GraphBuilder& n, Variable* x, const Shape& axes, bool gain, bool negates,
                            bool other = false) {
  Variable* centre = mean(n, x, axes);
  Variable* d = n.op("Sub", {x, centre});
  Variable* factor = n.op("Sqrt", {binary(n, "Add", mean(n, n.op("Mul", {d, d}), axes), 1e-3)});
  factor = n.op("Reciprocal", {factor});
  if (gain) factor = n.op("Mul", {factor, n.random({5})});
  if (other) centre = mean(n, n.op("Relu", {x}), axes);
  Variable* offset = n.random({5});
  Variable* shift = negates ? n.op("Add", {offset, n.op("Mul", {n.op("Neg", {centre}), factor})})
                            : n.op("Sub", {offset, n.op("Mul", {centre, factor})});
  return n.op("Add", {n.op("Mul", {x, factor}), shift});
}

TEST(FuseLayerNormalization, FoldedForm) {
  const auto pass = [](Graph& graph) { EXPECT_EQ(fuse_layer_normalization(graph).total(), 1); };
  for (const bool gain : {false, true})
    for (const bool negates : {false, true})
      for (const Shape& axes : {Shape{-1}, Shape{2, 3}, Shape{}})
        EXPECT_THAT(
            fused([&](GraphBuilder& n, Variable* x) { return folded_layer_norm(n, x, axes, gain, negates); }, pass),
            ElementsAre("LayerNormalization"));
  const auto none = [](Graph& graph) { EXPECT_FALSE(fuse_layer_normalization(graph).changed()); };
  fused([](GraphBuilder& n, Variable* x) { return folded_layer_norm(n, x, {1}, true, true); }, none);
  fused([](GraphBuilder& n, Variable* x) { return folded_layer_norm(n, x, {-1}, true, true, true); }, none);
}

TEST(FuseLayerNormalization, Refusals) {
  const auto pass = [](Graph& graph) { EXPECT_FALSE(fuse_layer_normalization(graph).changed()); };
  fused([](GraphBuilder& n, Variable* x) { return layer_norm(n, x, {-1}, 4, true); }, pass);
  fused([](GraphBuilder& n, Variable* x) { return layer_norm(n, x, {1}, 2, false); }, pass);
  fused([](GraphBuilder& n, Variable* x) { return layer_norm(n, x, {1, 3}, 2, false); }, pass);
}

TEST(FuseLayerNormalization, AGainOverOtherAxesStaysAMul) {
  const auto found = fused(
      [](GraphBuilder& n, Variable* x) {
        return n.op("Mul", {layer_norm(n, x, {-1}, 2, false), n.random({3, 1, 1})});
      },
      [](Graph& graph) { fuse_layer_normalization(graph); });
  EXPECT_THAT(found, ElementsAre("LayerNormalization", "Mul"));
}

struct RmsCase {
  int form = 0;  // 0: x / rms, 1: x * Reciprocal(rms), 2: x * (1 / rms)
  double exponent = 2;
  Shape axes{-1};
  Shape gain{5};
};

Variable* rms_norm(GraphBuilder& n, Variable* x, const RmsCase& test) {
  Variable* root =
      n.op("Sqrt", {binary(n, "Add", mean(n, n.op("Pow", {x, n.scalar(test.exponent)}), test.axes), 1e-3)});
  Variable* y = test.form == 0   ? n.op("Div", {x, root})
                : test.form == 1 ? n.op("Mul", {x, n.op("Reciprocal", {root})})
                                 : n.op("Mul", {n.op("Div", {n.scalar(1), root}), x});
  return n.op("Mul", "last", {y, n.random(test.gain)});
}

TEST(FuseRmsNormalization, Spellings) {
  const auto pass = [](Graph& graph) { EXPECT_EQ(fuse_rms_normalization(graph).total(), 1); };
  for (const RmsCase& test : {RmsCase{}, RmsCase{.form = 1}, RmsCase{.form = 2}, RmsCase{.gain = {1, 1, 5}},
                              RmsCase{.gain = {}}, RmsCase{.axes = {2, 3}, .gain = {4, 5}}})
    EXPECT_THAT(fused([&](GraphBuilder& n, Variable* x) { return rms_norm(n, x, test); }, pass),
                ElementsAre("RMSNormalization"));
}

TEST(FuseRmsNormalization, Refusals) {
  const auto pass = [](Graph& graph) { EXPECT_FALSE(fuse_rms_normalization(graph).changed()); };
  for (const RmsCase& test : {RmsCase{.exponent = 4}, RmsCase{.axes = {1}}, RmsCase{.gain = {3, 1, 1}}})
    fused([&](GraphBuilder& n, Variable* x) { return rms_norm(n, x, test); }, pass);
}

TEST(FuseRmsNormalization, LikeIncumbentNames) {
  GraphBuilder net;
  net.output(net.op("Relu", "r", {rms_norm(net, net.input({2, 5}), {})}));
  format_like_incumbent(net.graph);
  EXPECT_EQ(net.graph.operations()[1]->name(), "last_rmsnorm");
  EXPECT_EQ(net.graph.operations()[1]->int_attribute("axis"), -1);
}

Variable* lp_norm(GraphBuilder& n, Variable* x, const char* type, int64_t axis, double bound, bool expand) {
  Variable* norm = n.op(type, {x, n.integers({axis})}, {{"keepdims", int64_t{1}}});
  Variable* safe = n.op("Clip", {norm, n.scalar(bound)});
  if (expand) safe = n.op("Expand", {safe, n.op("Shape", {x})});
  return n.op("Div", {x, safe});
}

TEST(FuseLpNormalization, BothOrdersOfTheNorm) {
  const auto pass = [](Graph& graph) { EXPECT_EQ(fuse_lp_normalization(graph).total(), 1); };
  for (const char* type : {"ReduceL2", "ReduceL1"})
    for (const int64_t axis : {1, -1})
      for (const bool expand : {false, true})
        EXPECT_THAT(fused([&](GraphBuilder& n, Variable* x) { return lp_norm(n, x, type, axis, 1e-12, expand); }, pass),
                    testing::Contains("LpNormalization"));
}

TEST(FuseLpNormalization, RefusesLargeBounds) {
  const auto pass = [](Graph& graph) { EXPECT_FALSE(fuse_lp_normalization(graph).changed()); };
  fused([](GraphBuilder& n, Variable* x) { return lp_norm(n, x, "ReduceL2", 1, 0.5, true); }, pass);
}

}  // namespace
}  // namespace espq
