// Which slots share a scale and who rounds: hand-made networks against the states that esp-ppq 1.3.12 gives them (read
// from its own graphs), and the options that deviate.
#include <gmock/gmock.h>

#include "core/exec/executor.h"
#include "core/support/error.h"
#include "passes/legalize/legalize.h"
#include "passes/quantize/align_scales.h"
#include "passes/quantize/assign_widths.h"
#include "passes/quantize/calibrate.h"
#include "passes/quantize/create_slots.h"
#include "passes/quantize/quantize_parameters.h"
#include "passes/quantize/retype_tables.h"
#include "passes/quantize/settle.h"
#include "passes/quantize/tie_fused.h"
#include "tests/support/graph_builder.h"

namespace espq {
namespace {

using namespace test;
using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

struct Settings {
  std::string target = "esp32p4";
  WidthOptions widths = {};
  CalibrationOptions calibration = {.observer = Observer::MinMax};
  AlignOptions alignment = {};
  Layers layers = {};
  Quirks quirks = {};
};

void run(GraphBuilder& network, const Settings& settings = {}) {
  Graph& graph = network.graph;
  const Quirks& quirks = settings.quirks;
  assign_widths(graph, settings.widths, settings.layers, quirks);
  ObserverTable observers;
  create_slots(graph, find_target(settings.target), settings.widths.bits, observers, settings.calibration,
               settings.layers, quirks);
  tie_fused(graph, quirks);
  tie_consumers(graph, quirks);
  quantize_parameters(graph, observers, settings.calibration, quirks);
  calibrate(graph, network.data(), observers, settings.calibration, quirks);
  align_scales(graph, network.data(), settings.alignment, quirks);
  settle(graph, quirks);
}

bool tied(GraphBuilder& network, const SlotQuant& a, const SlotQuant& b) {
  return network.graph.scales().root(a.scale) == network.graph.scales().root(b.scale);
}

// Conv1 + Relu, two convolutions added, pooled, one branch through Sigmoid, concatenated, averaged, flattened.
GraphBuilder branching_network() {
  GraphBuilder net;
  Variable* x = net.input("x", {1, 3, 8, 8});
  Variable* r1 = net.op("Relu", "relu", {net.conv("conv1", x, 4)});
  Variable* sum = net.op("Add", "add", {net.conv("conv2", r1, 4), net.conv("conv3", r1, 4)});
  Variable* pool = net.op("MaxPool", "maxpool", {sum}, {{"kernel_shape", std::vector<int64_t>{2, 2}}});
  Variable* joined = net.op("Concat", "concat", {pool, net.op("Sigmoid", "sigmoid", {pool})}, {{"axis", int64_t{1}}});
  Variable* flat = net.op("Flatten", "flatten", {net.op("GlobalAveragePool", "gap", {joined})});
  net.outputs({flat});
  return net;
}

TEST(Scales, BranchingNetworkEndsInTheKnownStates) {
  GraphBuilder net = branching_network();
  run(net);
  EXPECT_EQ(net.in("conv1").state, SlotState::Quantizes);
  EXPECT_EQ(net.in("conv1", 1).state, SlotState::Quantizes);
  EXPECT_EQ(net.in("conv1", 1).channel_axis, 0);
  EXPECT_EQ(net.in("conv1", 2).state, SlotState::QuantizesShared);
  EXPECT_EQ(net.in("conv1", 2).bits, 32);
  EXPECT_EQ(net.out("conv1").state, SlotState::Carries);
  EXPECT_EQ(net.in("relu").state, SlotState::Carries);
  EXPECT_EQ(net.out("relu").state, SlotState::Quantizes);
  EXPECT_TRUE(tied(net, net.out("conv1"), net.out("relu")));
  for (const char* conv : {"conv2", "conv3"}) {
    EXPECT_EQ(net.out(conv).state, SlotState::QuantizesShared);
    EXPECT_TRUE(tied(net, net.out(conv), net.out("add")));
  }
  EXPECT_EQ(net.in("add", 0).state, SlotState::QuantizesShared);
  EXPECT_EQ(net.out("add").state, SlotState::Quantizes);
  for (const SlotQuant* slot : {&net.in("maxpool"), &net.out("maxpool"), &net.in("sigmoid")}) {
    EXPECT_EQ(slot->state, SlotState::Carries);
    EXPECT_TRUE(tied(net, *slot, net.out("add")));
  }
  for (const SlotQuant* slot : {&net.out("sigmoid"), &net.in("concat", 0), &net.in("concat", 1)}) {
    EXPECT_EQ(slot->state, SlotState::QuantizesShared);
    EXPECT_TRUE(tied(net, *slot, net.out("concat")));
  }
  EXPECT_EQ(net.out("concat").state, SlotState::Quantizes);
  EXPECT_EQ(net.in("gap").state, SlotState::Carries);
  EXPECT_EQ(net.out("gap").state, SlotState::Quantizes);
  EXPECT_TRUE(tied(net, net.out("flatten"), net.out("gap")));
}

TEST(Scales, BiasIsTheProductOfInputAndWeight) {
  for (const char* target : {"esp32p4", "esp32s3", "c"}) {
    GraphBuilder net = branching_network();
    run(net, {.target = target});
    const std::vector<int> weight = net.exponents(net.in("conv2", 1));
    std::vector<int> expected;
    expected.reserve(weight.size());
    for (int exponent : weight) expected.push_back(exponent + net.exponents(net.in("conv2"))[0]);
    EXPECT_EQ(net.exponents(net.in("conv2", 2)), expected) << target;
    EXPECT_EQ(weight.size(), std::string(target) == "esp32p4" ? 4u : 1u);
    EXPECT_EQ(net.in("conv2", 2).bits, std::string(target) == "esp32s3" ? 20 : 32);
  }
}

TEST(Scales, PassiveOperationInFrontOfReluLeavesItsProducer) {
  GraphBuilder net;
  Variable* x = net.input("x", {1, 3, 8, 8});
  Variable* pool =
      net.op("MaxPool", "pool", {net.op("Sigmoid", "f", {x})}, {{"kernel_shape", std::vector<int64_t>{2, 2}}});
  net.outputs({net.op("Relu", "relu", {pool})});
  run(net);
  EXPECT_TRUE(tied(net, net.in("pool"), net.out("relu")));
  EXPECT_TRUE(tied(net, net.out("pool"), net.out("relu")));
  EXPECT_FALSE(tied(net, net.out("f"), net.in("pool")));
  EXPECT_EQ(net.out("f").state, SlotState::Quantizes);
}

TEST(Scales, ActivationBehindAGraphOutputKeepsItsOwnScaleUnlessAsked) {
  for (bool through : {false, true}) {
    GraphBuilder net;
    Variable* between = net.conv("conv", net.input("x", {1, 3, 8, 8}), 4);
    net.outputs({net.op("Relu", "relu", {between}), between});
    run(net, {.quirks = {.tie_through_graph_outputs = through}});
    EXPECT_EQ(tied(net, net.out("conv"), net.out("relu")), through);
  }
}

TEST(Scales, EveryOperandOfAReadTensorCarriesIt) {
  for (bool first_only : {false, true}) {
    GraphBuilder net;
    Variable* s = net.op("Sigmoid", "s", {net.input("x", {1, 16})});
    net.outputs({net.op("Mul", "square", {s, s})});
    run(net, {.quirks = {.tie_first_operand_only = first_only}});
    EXPECT_EQ(net.in("square", 0).state, SlotState::Carries);
    EXPECT_EQ(net.in("square", 1).state, first_only ? SlotState::Quantizes : SlotState::Carries);
  }
}

TEST(Scales, MixedPrecisionRaisesTheReluAndRequantizesTheEdges) {
  GraphBuilder net;
  Variable* first = net.op("Relu", "relu1", {net.conv("conv1", net.input("x", {1, 3, 8, 8}), 4)});
  net.outputs({net.op("Relu", "relu2", {net.conv("conv2", first, 4)})});
  run(net, {.layers = {{"conv2", {.width = Width::Int16}}}});
  EXPECT_EQ(net.in("conv2").state, SlotState::Quantizes);  // 8-bit tensor read by a 16-bit operation
  EXPECT_EQ(net.in("conv2").bits, 16);
  EXPECT_EQ(net.in("conv2", 2).bits, 40);
  EXPECT_EQ(net.operation("relu2").width(), Width::Int16);
  EXPECT_EQ(net.out("relu2").bits, 16);
  EXPECT_TRUE(tied(net, net.out("conv2"), net.out("relu2")));
  EXPECT_EQ(net.out("relu1").bits, 8);
}

TEST(Scales, FloatOperationsHaveNoSlots) {
  GraphBuilder net;
  Variable* hidden = net.op("Sigmoid", "s", {net.input("x", {1, 16})});
  net.outputs({net.op("Tanh", "t", {hidden})});
  run(net, {.layers = {{"s", {.width = Width::Float}}}});
  EXPECT_FALSE(net.operation("s").quantized());
  EXPECT_EQ(net.in("t").state, SlotState::Quantizes);
}

TEST(Scales, UnknownOperationNamesAreErrors) {
  GraphBuilder net;
  net.outputs({net.op("Sigmoid", "sigmoid_3", {net.input("x", {1, 16})})});
  EXPECT_THAT(
      [&] {
        assign_widths(net.graph, {}, {{"sigmoid3", {.width = Width::Float}}});
      },
      ThrowsMessage<UserError>(HasSubstr("did you mean 'sigmoid_3'")));
  EXPECT_THAT([&] { assign_widths(net.graph, {.bits = 7}); }, ThrowsMessage<UserError>(HasSubstr("use 8 or 16")));
}

TEST(Scales, SoftmaxStaysFloatInFrontOfAnAdd) {
  for (bool move : {false, true}) {
    GraphBuilder net;
    Variable* x = net.input("x", {1, 16});
    Variable* soft = net.op("Softmax", "softmax", {net.op("Tanh", "t", {x})});
    net.outputs({net.op("Add", "add", {soft, net.op("Sigmoid", "s", {x})})});
    run(net, {.quirks = {.move_float_producers = move}});
    EXPECT_EQ(net.out("softmax").state, move ? SlotState::QuantizesShared : SlotState::Float);
    EXPECT_EQ(net.in("add", 0).state, SlotState::QuantizesShared);
  }
}

TEST(Alignment, LargeTakesTheWidestOperand) {
  for (bool doubles : {false, true}) {
    GraphBuilder net;
    Variable* x = net.input("x", {1, 16});
    Variable* wide = net.op("Mul", "wide", {x, net.constant("hundred", at::full({1}, 100.0f))});
    net.outputs({net.op("Greater", "greater", {net.op("Sigmoid", "s", {x}), wide})});
    const auto widest = [&] {
      GraphBuilder alone;
      Variable* y = alone.input("x", {1, 16});
      alone.outputs({alone.op("Mul", "wide", {y, alone.constant("hundred", at::full({1}, 100.0f))})});
      run(alone);
      return alone.exponents(alone.out("wide"));
    }();
    run(net, {.quirks = {.large_doubles = doubles}});
    EXPECT_EQ(net.exponents(net.in("greater", 0))[0], widest[0] + doubles);
    EXPECT_TRUE(tied(net, net.in("greater", 0), net.in("greater", 1)));
    EXPECT_TRUE(tied(net, net.out("s"), net.in("greater", 0)));  // its only reader
    EXPECT_TRUE(net.out("greater").is_float());
  }
}

// The plain PRelu kernel of the chip library gives positive codes on as they are, whatever the exponents.
TEST(Alignment, PReluHasOneExponentWhereTheChipPassesCodes) {
  struct Case {
    const char* target;
    int bits;
    bool aligned;
  };
  for (const Case& c :
       {Case{"c", 8, true}, Case{"c", 16, true}, Case{"esp32p4", 8, false}, Case{"esp32p4", 16, true}}) {
    GraphBuilder net;
    Variable* conv = net.conv("conv", net.input("x", {1, 3, 8, 8}), 4);
    // Steep slopes: negative inputs become results four times as large as any input.
    net.outputs({net.op("PRelu", "prelu", {conv, net.constant("slope", at::full({4, 1, 1}, -4.0f))})});
    run(net, {.target = c.target, .widths = {.bits = c.bits}});
    const int in = net.exponents(net.in("prelu"))[0], out = net.exponents(net.out("prelu"))[0];
    if (c.aligned) {
      EXPECT_EQ(in, out) << c.target << " at " << c.bits;
      EXPECT_TRUE(tied(net, net.out("conv"), net.out("prelu")));
    } else {
      EXPECT_EQ(in + 2, out) << c.target << " at " << c.bits;
    }
  }
}

TEST(Alignment, MovedCodesKeepTheirExponentBehindAGraphInput) {
  GraphBuilder net;
  Variable* x = net.input("x", {1, 4, 4});
  // The slice holds small numbers only, its grid would be finer than the input's.
  const at::Tensor one = at::ones({1}, at::kLong);
  net.outputs({net.op("Slice", "slice",
                      {net.op("Mul", "mul", {x, net.constant("f", at::tensor({1.f, 1.f, 1.f, 0.01f}))}),
                       net.constant("starts", one * 3), net.constant("ends", one * 4), net.constant("axes", one * 2),
                       net.constant("steps", one)}),
               net.op("Slice", "first",
                      {x, net.constant("starts0", one * 0), net.constant("ends0", one), net.constant("axes0", one),
                       net.constant("steps0", one)})});
  run(net);
  EXPECT_EQ(net.exponents(net.in("slice")), net.exponents(net.out("slice")));
  EXPECT_EQ(net.exponents(net.in("first")), net.exponents(net.out("first")));
}

TEST(Widths, OperatorsTakeTheWidthThatTheChipHas) {
  for (bool fit : {true, false}) {
    GraphBuilder net;
    Variable* x = net.conv("conv", net.input("x", {1, 3, 8, 8}), 4);
    net.outputs({net.op("Resize", "resize", {x, nullptr, net.constant("scales", at::tensor({1.f, 1.f, 2.f, 2.f}))},
                        {{"mode", std::string("nearest")},
                         {"coordinate_transformation_mode", std::string("asymmetric")},
                         {"nearest_mode", std::string("floor")}})});
    assign_widths(net.graph, {.bits = 16, .check_kernels = false}, {}, {.widths_ignore_kernels = !fit});
    EXPECT_EQ(net.operation("conv").width(), Width::Int16);
    EXPECT_EQ(net.operation("resize").width(), fit ? Width::Int8 : Width::Int16);
  }
}

TEST(Widths, FunctionsWithoutKernelBecomeTables) {
  GraphBuilder net;
  net.outputs({net.op("Mish", "mish", {net.conv("conv", net.input("x", {1, 3, 8, 8}), 4)})});
  run(net);
  EXPECT_EQ(net.operation("mish").width(), Width::Int8);
  retype_functions_without_kernel(net.graph, {});
  EXPECT_EQ(net.operation("mish").type(), "LUT");
  EXPECT_EQ(net.operation("mish").chip().function, "Mish");
  EXPECT_FALSE(net.operation("mish").chip().table_step.has_value());
}

TEST(Widths, OperatorsWithoutKernelAreRefusedAllAtOnce) {
  GraphBuilder net;
  Variable* x = net.conv("conv", net.input("x", {1, 3, 8, 8}), 4);
  net.outputs({net.op("CumSum", "sum", {x, net.constant("axis", at::scalar_tensor(1, at::kLong))}),
               net.op("Trilu", "triangle", {x})});
  assign_widths(net.graph, {});
  const Deployment deployment{find_target("esp32p4")};
  EXPECT_THAT([&] { require_runs(net.graph, deployment, {}, {}); },
              ThrowsMessage<UserError>(AllOf(HasSubstr("2 operations cannot run on esp32p4"),
                                             HasSubstr("CumSum 'sum': chip library 3.3.9 has no float kernel for it"),
                                             HasSubstr("Trilu 'triangle'"))));
  EXPECT_NO_THROW(require_runs(net.graph, deployment, {.check_kernels = false}, {}));
}

TEST(Alignment, SharedProducersMoveOnlyByForce) {
  for (bool force : {false, true}) {
    GraphBuilder net;
    Variable* x = net.input("x", {1, 16});
    Variable *a = net.op("Sigmoid", "a", {x}), *b = net.op("Tanh", "b", {x});
    net.outputs({net.op("Add", "add", {a, b}), net.op("Neg", "neg", {b})});
    run(net, {.alignment = {.force_overlap = force}});
    EXPECT_TRUE(tied(net, net.out("a"), net.out("add")));
    EXPECT_EQ(tied(net, net.out("b"), net.out("add")), force);
    EXPECT_TRUE(tied(net, net.in("add", 1), net.out("add")));
  }
}

TEST(Alignment, MethodsThatDoNotFitAreErrors) {
  GraphBuilder net = branching_network();
  EXPECT_THAT([&] { align_scales(net.graph, net.data(), {.pooling = AlignMethod::Large}); },
              ThrowsMessage<UserError>(HasSubstr("alignment.pooling")));
}

// ------------------------------------------------------------------------------------- results
/// A thousand values between -4 and 4, but for one of about 8.5: cutting that off where the grid of steps of 1/16 ends
/// costs (8.5 - 7.9)^2, steps of 1/8 for all would cost 1000 (1/8^2 - 1/16^2) / 12, three times as much.
GraphBuilder network_with_a_large_class(const char* behind) {
  GraphBuilder net;
  at::Tensor factors = at::ones({1, 1000}), offsets = at::zeros({1, 1000});
  factors[0][0] = 0.01;
  offsets[0][0] = 8.5;
  Variable* x = net.op("Mul", "shrunk", {net.input("x", {1, 1000}), net.constant("factors", factors)});
  x = net.op("Add", "scores", {x, net.constant("offsets", offsets)});
  const std::string type = behind;
  if (type == "Reshape") x = net.op("Reshape", "end", {x, net.integers({1, 10, 100})});
  if (type == "Softmax") x = net.op("Softmax", "end", {x}, {{"axis", int64_t{1}}});
  if (type == "Sigmoid") x = net.op("Sigmoid", "end", {x});
  net.outputs({x});
  return net;
}

TEST(Results, AreNotCutOff) {
  const auto exponent = [](const char* behind, const CalibrationOptions& calibration, const Layers& layers = {}) {
    GraphBuilder net = network_with_a_large_class(behind);
    run(net, {.calibration = calibration, .layers = layers});
    return net.exponents(net.out("scores"))[0];
  };
  for (const char* behind : {"", "Reshape", "Softmax"}) {
    const int whole = exponent(behind, {.observer = Observer::MinMax});
    EXPECT_EQ(exponent(behind, {}), whole) << behind;
    EXPECT_LT(exponent(behind, {.result_observer = std::nullopt}), whole) << behind;
    // What is said of the layer itself counts.
    LayerOptions own;
    own.observer = Observer::MeanSquaredError;
    EXPECT_LT(exponent(behind, {}, {{"scores", own}}), whole) << behind;
  }
  // Behind a Sigmoid large values are alike anyway.
  EXPECT_LT(exponent("Sigmoid", {}), exponent("Sigmoid", {.observer = Observer::MinMax}));
}

// ------------------------------------------------------------------------------------- bounds and pad values
double largest_on(GraphBuilder& net, const SlotQuant& slot) {
  return std::ldexp(quant_max(slot.bits), net.exponents(slot)[0]);
}

TEST(Followers, APadValueBeyondWhatItPadsFits) {
  for (const Observer observer : {Observer::MinMax, Observer::MeanSquaredError})
    for (const bool behind : {false, true}) {
      GraphBuilder net;
      Variable* x = net.input("x", {1, 3, 4, 5});
      if (behind) x = net.op("Sigmoid", "front", {x});
      net.outputs({net.op("Pad", "pad", {x, net.integers({0, 0, 2, 2, 0, 0, 2, 2}), net.scalar(40)})});
      run(net, {.calibration = {.observer = observer}});
      EXPECT_GE(largest_on(net, net.in("pad", 2)), 40);
      EXPECT_GE(largest_on(net, net.out("pad")), 40);
    }
}

TEST(Followers, ABoundBeyondAllValuesFits) {
  GraphBuilder net;
  net.outputs({net.op("Clip", "clip", {net.input("x", {1, 3, 4, 5}), net.scalar(100), net.scalar(200)})});
  run(net);
  EXPECT_GE(largest_on(net, net.in("clip", 1)), 100);
}

TEST(Followers, ABoundWithinTheValuesChangesNothing) {
  std::vector<std::vector<int>> exponents;
  for (const bool clips : {false, true}) {
    GraphBuilder net;
    Variable* x = net.input("x", {1, 3, 4, 5});
    net.outputs({clips ? net.op("Clip", "op", {x, net.scalar(-1), net.scalar(1)})
                       : net.op("Pad", "op", {x, net.integers({0, 0, 9, 9, 0, 0, 9, 9})})});
    run(net, {.calibration = {.observer = Observer::MeanSquaredError}});
    exponents.push_back(net.exponents(net.in("op")));
  }
  EXPECT_EQ(exponents[0], exponents[1]);
}

// A near-dead channel: tiny weights, a bias of 1. Its grid would be far too fine for the bias.
GraphBuilder near_dead_network() {
  GraphBuilder net;
  Variable* x = net.input("x", {1, 2, 4, 4});
  at::Tensor weight = at::ones({3, 2, 1, 1});
  weight[1].mul_(1e-8);
  net.outputs({net.op("Conv", "conv", {x, net.constant("w", weight), net.constant("b", at::full({3}, 1.0f))},
                      {{"kernel_shape", std::vector<int64_t>{1, 1}}})});
  return net;
}

TEST(Derive, WeightsMakeRoomForTheBias) {
  GraphBuilder fitted = near_dead_network(), saturating = near_dead_network();
  run(fitted);
  run(saturating, {.quirks = {.bias_saturates = true}});
  const std::vector<int> bias = fitted.exponents(fitted.in("conv", 2));
  for (int exponent : bias) EXPECT_LE(std::ldexp(1.0, -exponent), quant_max(32));
  EXPECT_GT(std::ldexp(1.0, -saturating.exponents(saturating.in("conv", 2))[1]), quant_max(32));
  const int shift = fitted.exponents(fitted.out("conv"))[0] - bias[1];
  EXPECT_LE(shift, 31);
  EXPECT_EQ(bias[0], saturating.exponents(saturating.in("conv", 2))[0]);  // live channels keep their precision
}

TEST(Derive, OutputIsNoFinerThanTheProduct) {
  for (bool fit : {true, false}) {
    GraphBuilder net;
    Variable* x = net.input("x", {1, 2, 4, 4});
    at::Tensor weight = at::zeros({1, 2, 1, 1});
    weight[0][0] = 100.0f, weight[0][1] = -100.0f;
    Variable* same = net.op("Sigmoid", "s", {net.op("Concat", "c", {x, x}, {{"axis", int64_t{1}}})});
    Variable* slice = net.op("Conv", "conv", {same, net.constant("w", at::cat({weight, -weight}, 1))},
                             {{"kernel_shape", std::vector<int64_t>{1, 1}}});
    net.outputs({slice});
    // Equal inputs cancel, so the output is zero and its own grid very fine.
    Settings settings{.quirks = {.shifts_left = !fit}};
    run(net, settings);
    const int product = net.exponents(net.in("conv"))[0] + net.exponents(net.in("conv", 1))[0];
    EXPECT_EQ(net.exponents(net.out("conv"))[0] >= product, fit);
  }
}

TEST(Derive, MulOutputIsNoFinerThanTheProduct) {
  GraphBuilder net;
  Variable* x = net.input("x", {1, 16});
  Variable* zero = net.op("Sub", "zero", {net.op("Sigmoid", "a", {x}), net.op("Sigmoid", "b", {x})});
  net.outputs({net.op("Mul", "mul", {net.op("Tanh", "t", {x}), zero})});
  run(net);
  EXPECT_GE(net.exponents(net.out("mul"))[0], net.exponents(net.in("mul", 0))[0] + net.exponents(net.in("mul", 1))[0]);
}

TEST(Derive, InfiniteWeightsAreErrorsNotFloatOperands) {
  GraphBuilder net;
  Variable* x = net.input("x", {1, 4});
  net.outputs({net.op("MatMul", "matmul", {x, net.constant("w", at::full({4, 2}, INFINITY))})});
  assign_widths(net.graph, {});
  ObserverTable observers;
  create_slots(net.graph, find_target("c"), 8, observers, {});
  EXPECT_THAT([&] { quantize_parameters(net.graph, observers, {}); }, ThrowsMessage<UserError>(HasSubstr("'matmul'")));
}

TEST(Derive, ClipBoundsFollowTheInput) {
  GraphBuilder net;
  Variable* x = net.input("x", {1, 16});
  Variable* clip = net.op("Clip", "clip",
                          {net.op("Sigmoid", "s", {x}), net.constant("low", at::scalar_tensor(0.0f)),
                           net.constant("high", at::scalar_tensor(6.0f))});
  net.outputs({clip});
  run(net);
  for (size_t slot : {1, 2}) {
    EXPECT_EQ(net.in("clip", slot).state, SlotState::QuantizesShared);
    EXPECT_TRUE(tied(net, net.in("clip", slot), net.in("clip", 0)));
  }
}

TEST(Derive, BiasIsFlattened) {
  GraphBuilder net;
  Variable* x = net.input("x", {2, 4});
  net.outputs(
      {net.op("Gemm", "gemm", {x, net.constant("w", at::randn({4, 3})), net.constant("b", at::randn({1, 3}))})});
  run(net);
  EXPECT_EQ(net.operation("gemm").input(2)->value().sizes(), at::IntArrayRef({3}));
  EXPECT_EQ(net.in("gemm", 1).channel_axis, 1);
}

TEST(Calibration, SharesObserversAndSeesRoundedWeights) {
  GraphBuilder net;
  Variable* x = net.input("x", {1, 3, 8, 8});
  net.outputs({net.conv("a", x, 4), net.conv("b", x, 4)});
  assign_widths(net.graph, {});
  ObserverTable observers;
  create_slots(net.graph, find_target("esp32p4"), 8, observers, {.observer = Observer::KlDivergence});
  quantize_parameters(net.graph, observers, {});
  const PassReport report = calibrate(net.graph, net.data(), observers, {});
  EXPECT_EQ(report.times("activation"), 4);
  EXPECT_EQ(report.times("tensor"), 3);     // both convolutions read one input
  EXPECT_EQ(report.times("batch run"), 3);  // kept between the phases
  EXPECT_EQ(net.exponents(net.in("a")), net.exponents(net.in("b")));
}

TEST(Calibration, GivesTheSameNumbersWithAndWithoutCache) {
  const auto calibrated = [](int64_t cache) {
    GraphBuilder net = branching_network();
    assign_widths(net.graph, {});
    ObserverTable observers;
    create_slots(net.graph, find_target("c"), 8, observers, {.observer = Observer::KlDivergence});
    quantize_parameters(net.graph, observers, {});
    calibrate(net.graph, net.data(), observers, {.steps = 5, .cache_mebibytes = cache});
    std::vector<int> exponents;
    for (const Operation* operation : net.graph.operations())
      exponents.push_back(slot_exponents(net.graph, operation->output_quant()[0])[0]);
    return exponents;
  };
  EXPECT_EQ(calibrated(0), calibrated(64));
}

TEST(Calibration, RefusesWhatIsNotFinite) {
  GraphBuilder net;
  net.outputs({net.op("Exp", "explode", {net.input("x", {1, 16})})});
  assign_widths(net.graph, {});
  ObserverTable observers;
  create_slots(net.graph, find_target("c"), 8, observers, {});
  const Dataset data({{{"", at::full({1, 16}, 200.0f)}}});
  EXPECT_THAT([&] { calibrate(net.graph, data, observers, {}, {}); }, ThrowsMessage<UserError>(HasSubstr("'explode'")));
  EXPECT_THAT([&] { calibrate(net.graph, Dataset(), observers, {}, {}); },
              ThrowsMessage<UserError>(HasSubstr("at least one batch")));
}

TEST(Tables, SixteenBitFunctionsBecomeTables) {
  GraphBuilder net;
  Variable* x = net.input("x", {1, 16});
  net.outputs({net.op("Neg", "neg", {net.op("Sigmoid", "s", {x})})});
  run(net, {.widths = {.bits = 16}});
  EXPECT_THAT([&] { retype_tables(net.graph, 16, {.step = 24}); }, ThrowsMessage<UserError>(HasSubstr("power of two")));
  retype_tables(net.graph, 16, {.step = 64});
  EXPECT_EQ(net.operation("s").type(), "LUT");
  EXPECT_EQ(net.operation("s").chip().function, "Sigmoid");
  EXPECT_EQ(net.operation("s").chip().table_step, 64);
  EXPECT_EQ(net.operation("neg").type(), "Neg");
  Executor executor(net.graph, Precision::Simulated);
  const at::Tensor input = at::linspace(-2, 2, 16).view({1, 16});
  EXPECT_LT((executor.run({input})[0] + at::sigmoid(input)).abs().max().item<double>(), 0.01);
}

}  // namespace
}  // namespace espq
