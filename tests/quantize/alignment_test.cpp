// Scales of operations that compute on raw integers: what holds the values, what is better by the error, and that
// operations of different width never share one. Expected numbers are computed here, in double.
#include <gmock/gmock.h>

#include <cmath>
#include <set>

#include "core/exec/executor.h"
#include "core/support/error.h"
#include "passes/lowering/lower.h"
#include "passes/pipeline/convert.h"
#include "tests/support/graph_builder.h"

namespace espq {
namespace {

using namespace test;
using testing::HasSubstr;
using testing::ThrowsMessage;

at::Tensor uniform(at::IntArrayRef shape, double low, double high) { return at::rand(shape) * (high - low) + low; }

Dataset one_batch(std::map<std::string, at::Tensor> inputs) {
  return Dataset({Dataset::Batch(inputs.begin(), inputs.end())});
}

Recipe recipe_for(const char* target = "esp32p4") {
  Recipe recipe;
  recipe.target = target;
  recipe.simplify.reset();  // the networks here stay as they are written
  recipe.widths.check_kernels = false;
  return recipe;
}

/// Noise over signal of the first output, over all batches.
double noise(const Graph& network, const Conversion& made, const Dataset& data) {
  Executor reference(network, Precision::Float), simulated(made.quantized, Precision::Simulated);
  double noise = 0, signal = 0;
  for (size_t batch = 0; batch < data.size(); ++batch) {
    const Tensors inputs = data.inputs(network, batch);
    const at::Tensor want = reference.run(inputs)[0].to(at::kDouble), got = simulated.run(inputs)[0].to(at::kDouble);
    noise += (got - want).square().sum().item<double>();
    signal += want.square().sum().item<double>();
  }
  return noise / signal;
}

/// Half up to the grid of 8 bits, in double.
double on_grid(double value, int exponent) {
  const double step = std::ldexp(1.0, exponent);
  return std::clamp(std::floor(value / step + 0.5), -128.0, 127.0) * step;
}

/// Squared error of a - b on one grid.
double difference_error(const at::Tensor& a, double b, int exponent) {
  double error = 0;
  for (int64_t i = 0; i < a.numel(); ++i) {
    const double x = a.const_data_ptr<float>()[i];
    const double got = on_grid(on_grid(x, exponent) - on_grid(b, exponent), exponent);
    error += (got - (x - b)) * (got - (x - b));
  }
  return error;
}

int exponent_of(const Graph& graph, const char* operation) {
  return slot_exponents(graph, graph.find_operation(operation)->output_quant()[0]).at(0);
}

// A camera's picture, 0 .. 255, minus 128: the result fits steps of 1, the picture does not.
TEST(JointExponent, IsTheOneWithTheLeastError) {
  at::manual_seed(3);
  const at::Tensor picture = uniform({1, 3, 12, 12}, 0, 255);
  for (const double offset : {128.0, 5.0, -200.0}) {
    GraphBuilder net;
    net.outputs(
        {net.op("Sub", "sub", {net.input("x", {1, 3, 12, 12}), net.constant("offset", at::scalar_tensor(offset))})});
    const Conversion made = convert(net.graph, one_batch({{"x", picture}}), recipe_for("esp32s3"));
    int best = -4;
    for (int exponent = -4; exponent < 8; ++exponent)
      if (difference_error(picture, offset, exponent) < difference_error(picture, offset, best)) best = exponent;
    EXPECT_EQ(exponent_of(made.quantized, "sub"), best) << offset;
    const Operation& sub = *made.quantized.find_operation("sub");
    for (const SlotQuant& slot : sub.input_quant()) EXPECT_EQ(slot_exponents(made.quantized, slot)[0], best) << offset;
  }
}

TEST(JointExponent, HoldsOperandsThatTheResultsRangeWouldClip) {
  at::manual_seed(4);
  GraphBuilder net;
  net.outputs({net.op("Sub", "sub", {net.input("x", {1, 64}), net.constant("offset", at::scalar_tensor(128.0f))})});
  const at::Tensor picture = uniform({1, 64}, 0, 255);
  Recipe recipe = recipe_for();
  const double best =
      noise(net.graph, convert(net.graph, one_batch({{"x", picture}}), recipe), one_batch({{"x", picture}}));
  recipe.alignment.elementwise = AlignMethod::Output;
  const double output =
      noise(net.graph, convert(net.graph, one_batch({{"x", picture}}), recipe), one_batch({{"x", picture}}));
  EXPECT_LT(best, std::pow(10, -3.5));
  EXPECT_GT(output, 30 * best);
}

// The Relu behind shares the grid of the sum: what it drops is no error.
TEST(JointExponent, LooksBehindTheRelu) {
  GraphBuilder net;
  Variable* x = net.input("x", {1, 64});
  Variable* y = net.input("y", {1, 64});
  net.outputs({net.op("Relu", "relu", {net.op("Add", "add", {x, y})})});
  at::manual_seed(5);
  const at::Tensor small = uniform({1, 64}, -1, 0.9);
  at::Tensor large = uniform({1, 64}, -1, 0.9);
  large.slice(1, 0, 16).fill_(-100);
  const Conversion made = convert(net.graph, one_batch({{"x", small}, {"y", large}}), recipe_for());
  EXPECT_LE(exponent_of(made.quantized, "add"), -6);
}

// Sums keep the room that their operands need although the next sum would do with less.
TEST(JointExponent, OfASumIsNotMadeFinerByItsReader) {
  GraphBuilder net;
  Variable* x = net.input("x", {1, 96});
  Variable* centred = net.op("Sub", "first", {x, net.constant("offset", at::scalar_tensor(128.0f))});
  net.outputs({net.op("Add", "second", {centred, net.constant("little", at::scalar_tensor(-0.5f))})});
  at::manual_seed(6);
  const at::Tensor picture = uniform({1, 96}, 0, 255);
  Recipe recipe = recipe_for();
  recipe.legalize->fuse_functions = false;  // two sums, not one table
  const Conversion made = convert(net.graph, one_batch({{"x", picture}}), recipe);
  EXPECT_EQ(exponent_of(made.quantized, "first"), 1);
  EXPECT_EQ(exponent_of(made.quantized, "second"), 0);
  EXPECT_LT(noise(net.graph, made, one_batch({{"x", picture}})), 1e-3);
}

TEST(JointExponent, DoesNotClipWhatLeavesTheNetwork) {
  GraphBuilder net;
  Variable* x = net.input("x", {1, 64});
  Variable* wide = net.op("Mul", "wide", {x, net.constant("f", at::scalar_tensor(50.0f))});
  Variable* back = net.op("Mul", "back", {x, net.constant("g", at::scalar_tensor(-49.0f))});
  net.outputs({wide, net.op("Add", "add", {wide, back})});
  at::manual_seed(7);
  const at::Tensor values = uniform({1, 64}, -1, 1);
  Recipe recipe = recipe_for();
  recipe.alignment.elementwise = AlignMethod::Output;
  const Conversion made = convert(net.graph, one_batch({{"x", values}}), recipe);
  EXPECT_LT(noise(net.graph, made, one_batch({{"x", values}})), 1e-3);  // of the output 'wide'
}

// The hidden state lies within -1 and 1; the input of the cell does not.
TEST(Alignment, LeavesTheInputOfACellAlone) {
  constexpr int64_t kSteps = 4, kInputs = 8, kHidden = 8;
  GraphBuilder net;
  at::manual_seed(8);
  Variable* x = net.input("x", {kSteps, 1, kInputs});
  Variable* scaled = net.op("Mul", "front", {x, net.constant("ten", at::scalar_tensor(10.0f))});
  net.outputs(
      {net.op("GRU", "gru",
              {scaled, net.constant("w", at::randn({1, 3 * kHidden, kInputs}) * 0.1),
               net.constant("r", at::randn({1, 3 * kHidden, kHidden}) * 0.1),
               net.constant("b", at::zeros({1, 6 * kHidden})), nullptr, net.constant("h", at::zeros({1, 1, kHidden}))},
              {{"hidden_size", kHidden}, {"linear_before_reset", int64_t{1}}})});
  const at::Tensor values = uniform({kSteps, 1, kInputs}, -1, 1);
  const Conversion made = convert(net.graph, one_batch({{"x", values}}), recipe_for());
  EXPECT_GE(exponent_of(made.quantized, "front"), -4);  // 10 / 128 = 2^-3.7
  EXPECT_LE(exponent_of(made.quantized, "gru"), -7);
  EXPECT_LT(noise(net.graph, made, one_batch({{"x", values}})), 0.01);
}

TEST(Alignment, NeedsABatchToLookAt) {
  GraphBuilder net;
  Variable* x = net.input("x", {1, 8});
  net.outputs({net.op("Add", "add", {x, x})});
  Recipe recipe = recipe_for();
  recipe.alignment.batches = 0;
  EXPECT_THAT([&] { convert(net.graph, net.data(1), recipe); },
              ThrowsMessage<UserError>(HasSubstr("alignment.batches: 0")));
}

// ---------------------------------------------------------------------------------------------- data
TEST(CalibrationData, ThatSayLittleAreWarnedOf) {
  struct Case {
    at::Tensor values;
    const char* warning;
  };
  at::manual_seed(9);
  const at::Tensor usual = at::randn({1, 3, 8, 8});
  for (const Case& c :
       {Case{at::zeros_like(usual), "input 'x' is 0 in every batch"},
        Case{at::full_like(usual, 0.5), "input 'x' is 0.5 everywhere in every batch"},
        Case{usual.clamp(-1, 1) * 0.0039, "input 'x' stays within -0.0039 and 0.0039"}, Case{usual, ""}}) {
    GraphBuilder net;
    net.outputs({net.conv("conv", net.input("x", {1, 3, 8, 8}), 4)});
    const Conversion made = convert(net.graph, one_batch({{"x", c.values}}), recipe_for());
    std::string warnings;
    for (const PassReport& pass : made.report.passes)
      if (pass.pass == "calibrate")
        for (const std::string& warning : pass.warnings) warnings += warning + "\n";
    EXPECT_THAT(warnings, HasSubstr(c.warning));
    EXPECT_EQ(warnings.empty(), std::string(c.warning).empty()) << warnings;
  }
}

TEST(CalibrationData, LayersThatStaySilentAreNamed) {
  GraphBuilder net;
  Variable* x = net.input("x", {1, 3, 8, 8});
  Variable* none = net.op("Relu", "never", {net.op("Neg", "neg", {net.op("Abs", "abs", {x})})});
  net.outputs({net.conv("conv", none, 4)});
  const Conversion made = convert(net.graph, net.data(), recipe_for());
  std::string warnings;
  for (const PassReport& pass : made.report.passes)
    for (const std::string& warning : pass.warnings) warnings += warning + "\n";
  EXPECT_THAT(warnings, HasSubstr("0 on all calibration data"));
  EXPECT_THAT(warnings, HasSubstr("'never'"));
}

// ---------------------------------------------------------------------------------------------- widths
/// Widths of the grids in every scale group; weights and biases have scales of their own.
void expect_one_width_per_scale(const Graph& graph) {
  std::map<ScaleId, std::set<int>> widths;
  for (const Operation* operation : graph.operations()) {
    if (!operation->quantized()) continue;
    for (const auto* list : {&operation->input_quant(), &operation->output_quant()})
      for (const SlotQuant& slot : *list)
        if (!slot.is_float()) widths[graph.scales().root(slot.scale)].insert(slot.bits);
  }
  for (const auto& [scale, bits] : widths)
    EXPECT_EQ(bits.size(), 1u) << "scale group " << scale << "\n" << to_text(graph);
}

/// Two branches that `type` joins, a convolution behind. One branch is much larger than the other.
GraphBuilder joined(const char* type, bool resized = false) {
  GraphBuilder net;
  Variable* x = net.input("x", {1, 3, 8, 8});
  Variable* a = net.op("Relu", "relu_a", {net.conv("a", x, 4)});
  Variable* b = net.op("Relu", "relu_b", {net.conv("b", x, 4)});
  if (resized) {
    Variable* half = net.op("MaxPool", "pool", {b},
                            {{"kernel_shape", std::vector<int64_t>{2, 2}}, {"strides", std::vector<int64_t>{2, 2}}});
    b = net.op("Resize", "resize", {half, nullptr, net.constant("scales", at::tensor({1.f, 1.f, 2.f, 2.f}))},
               {{"mode", std::string("nearest")},
                {"coordinate_transformation_mode", std::string("asymmetric")},
                {"nearest_mode", std::string("floor")}});
  }
  const bool concat = std::string(type) == "Concat";
  Variable* both = net.op(type, "join", {a, b}, concat ? AttributeMap{{"axis", int64_t{1}}} : AttributeMap{});
  net.outputs({net.conv("out", both, 4)});
  return net;
}

TEST(Widths, NeverShareAScale) {
  for (const char* type : {"Add", "Sub", "Concat"}) {
    for (const char* target : {"esp32p4", "esp32s3", "c"}) {
      for (const char* wide : {"join", "relu_a", "a", "out", "b*"}) {
        SCOPED_TRACE(fmt::format("{} with {} at 16 bits for {}", type, wide, target));
        GraphBuilder net = joined(type);
        const Dataset data = net.data(8);
        Recipe recipe = recipe_for(target);
        const double narrow = noise(net.graph, convert(net.graph, data, recipe), data);
        recipe.layers[wide].width = Width::Int16;
        const Conversion made = convert(net.graph, data, recipe);
        expect_one_width_per_scale(made.quantized);
        // A 16-bit join between 8-bit neighbours rounds once more than the 8-bit one, which does so twice.
        EXPECT_LT(noise(net.graph, made, data), 1.5 * narrow);
      }
    }
  }
}

/// A picture whose single bright point no position of the smaller one meets.
TEST(Alignment, LinearResizeDoesNotClipWhatItReads) {
  GraphBuilder net;
  Variable* x = net.input("x", {1, 1, 4, 4});
  net.outputs({net.op("Resize", "resize", {x, nullptr, net.constant("scales", at::tensor({1.f, 1.f, 0.5f, 0.5f}))},
                      {{"mode", std::string("linear")}})});
  at::Tensor picture = at::full({1, 1, 4, 4}, 0.1F);
  picture[0][0][1][1] = 1;
  const Dataset data = one_batch({{"x", picture}});
  Recipe recipe = recipe_for();
  recipe.calibration.observer = Observer::MinMax;
  const Conversion made = convert(net.graph, data, recipe);
  const Operation& resize = *made.quantized.find_operation("resize");
  const int operand = slot_exponents(made.quantized, resize.input_quant()[0])[0];
  EXPECT_GE(std::ldexp(quant_max(8), operand), 0.99);
  EXPECT_LT(slot_exponents(made.quantized, resize.output_quant()[0])[0], operand);
  EXPECT_LT(noise(net.graph, made, data), 5e-3);
}

TEST(Widths, An8BitResizeDoesNotSpoilA16BitNetwork) {
  for (const char* type : {"Add", "Concat"}) {
    GraphBuilder net = joined(type, /*resized=*/true);
    const Dataset data = net.data(8);
    Recipe recipe = recipe_for();
    const double narrow = noise(net.graph, convert(net.graph, data, recipe), data);
    recipe.widths.bits = 16;
    const Conversion made = convert(net.graph, data, recipe);
    EXPECT_EQ(made.quantized.find_operation("resize")->width(), Width::Int8);
    expect_one_width_per_scale(made.quantized);
    EXPECT_LT(noise(net.graph, made, data), narrow);
  }
}

TEST(Widths, AClipOfAnotherWidthIsAnOperationOfItsOwn) {
  GraphBuilder net;
  Variable* conv = net.conv("conv", net.input("x", {1, 3, 8, 8}), 4);
  net.outputs(
      {net.op("Clip", "clip",
              {conv, net.constant("low", at::scalar_tensor(0.0f)), net.constant("high", at::scalar_tensor(6.0f))})});
  Recipe recipe = recipe_for();
  const Dataset data = net.data(8);
  const double narrow = noise(net.graph, convert(net.graph, data, recipe), data);
  recipe.layers["conv"].width = Width::Int16;
  const Conversion made = convert(net.graph, data, recipe);
  expect_one_width_per_scale(made.quantized);
  EXPECT_LT(noise(net.graph, made, data), 1.5 * narrow);  // one more rounding
}

// ---------------------------------------------------------------------------------------------- 8 to 16 bits
/// Tanh with 8 bits, Neg with 16, over `elements`.
Conversion widened(int64_t elements, const char* target, bool as_incumbent = false) {
  GraphBuilder net;
  net.outputs({net.op("Neg", "neg", {net.op("Tanh", "tanh", {net.input("x", {1, elements})})})});
  Recipe recipe = recipe_for(target);
  recipe.layers["neg"].width = Width::Int16;
  recipe.quirks.requantize_loses_tail = as_incumbent;
  return convert(net.graph, net.data(), recipe);
}

std::vector<std::string> types_of(const Graph& graph) {
  std::vector<std::string> types;
  for (const Operation* operation : graph.topological_order()) types.push_back(operation->type());
  return types;
}

TEST(Widening, AvoidsTheKernelThatLosesTheTail) {
  using testing::Contains;
  using testing::Not;
  struct Case {
    int64_t elements;
    const char* target;
    bool by_floats;
  };
  for (const Case& c :
       {Case{72, "esp32s3", true}, Case{72, "esp32p4", true}, Case{72, "c", false}, Case{80, "esp32p4", false},
        Case{76, "esp32p4", false}, Case{40, "esp32p4", false}, Case{56, "esp32s3", true}}) {
    SCOPED_TRACE(fmt::format("{} elements on {}", c.elements, c.target));
    const Conversion made = widened(c.elements, c.target);
    if (c.by_floats) {
      EXPECT_THAT(types_of(made.chip), testing::ElementsAre("Tanh", "DequantizeLinear", "QuantizeLinear", "Neg"));
    } else {
      EXPECT_THAT(types_of(made.chip), testing::ElementsAre("Tanh", "RequantizeLinear", "Neg"));
    }
    EXPECT_THAT(types_of(widened(c.elements, c.target, true).chip), Contains("RequantizeLinear"));
  }
}

TEST(Widening, ByFloatsIsExact) {
  const Conversion made = widened(72, "esp32s3");
  const int narrow = exponent_of(made.quantized, "tanh");
  const int wide = slot_exponents(made.quantized, made.quantized.find_operation("neg")->input_quant()[0]).at(0);
  ASSERT_LT(wide, narrow);
  Executor board(made.chip, Precision::Board);
  const Operation *tanh = made.chip.find_operation("tanh"), *neg = made.chip.find_operation("neg");
  const Tensors values =
      board.run({at::linspace(-2, 2, 72).view({1, 72})}, {tanh->output(), neg->input(0), neg->output()});
  const at::Tensor codes = values[0].to(at::kLong);
  EXPECT_TRUE(at::equal(values[1].to(at::kLong), codes * (int64_t{1} << (narrow - wide))));
  EXPECT_GT((codes.max() - codes.min()).item<int64_t>(), 100);
}

// 2^7 is -128 in a lane of 8 bits: the 1s of a coarse grid would become -1 instead of the largest code.
TEST(Widening, AMuchFinerGridKeepsTheSign) {
  struct Case {
    const char* target;
    int exponent;
    bool by_floats;
  };
  for (const Case& c : {Case{"esp32s3", -7, true}, Case{"esp32s3", -6, false}, Case{"esp32p4", -7, false},
                        Case{"esp32p4", -16, true}, Case{"c", -16, false}}) {
    SCOPED_TRACE(fmt::format("2^{} on {}", c.exponent, c.target));
    GraphBuilder net(c.target);
    net.exponent = 0;
    Operation& front = *net.quantized("Tanh", "front", {net.input("x", {1, 64})})->producer();
    Operation& reader = *net.quantized("Neg", "reader", {front.output()})->producer();
    reader.edit_input_quant(0) = net.slot(8, {c.exponent});
    net.outputs({reader.output()});
    const Graph chip = lower(net.graph);
    const std::vector<std::string> conversion = c.by_floats
                                                    ? std::vector<std::string>{"DequantizeLinear", "QuantizeLinear"}
                                                    : std::vector<std::string>{"RequantizeLinear"};
    const std::vector<std::string> found = types(chip);
    EXPECT_EQ(std::vector<std::string>(found.begin() + 1, found.end() - 1), conversion);
    Executor board(chip, Precision::Board);
    const at::Tensor codes = board.run({at::full({1, 64}, 2.0f)}, {chip.find_operation("reader")->input(0)})[0];
    EXPECT_EQ(codes.min().item<int64_t>(), std::min<int64_t>(127, int64_t{1} << -c.exponent));
  }
}

// Every exponent is right for x - x: the finest would clip x for everybody else.
TEST(JointExponent, OfAResultThatIsAlwaysZeroHoldsTheOperands) {
  GraphBuilder net;
  Variable* x = net.input("x", {1, 64});
  net.outputs({net.op("Sub", "nothing", {x, x}), net.op("Tanh", "other", {x})});
  const Conversion made = convert(net.graph, net.data(), recipe_for());
  EXPECT_GE(made.chip.inputs()[0]->storage()->exponents.at(0), -6);  // normally distributed numbers reach beyond 2
}

// The sum with a large constant has a coarse grid; what reads x beside it has not.
TEST(Widening, AGraphInputIsStoredForItsFinestReader) {
  GraphBuilder net;
  Variable* x = net.input("x", {1, 64});
  net.outputs(
      {net.op("Add", "far", {x, net.constant("offset", at::scalar_tensor(500.0f))}), net.op("Tanh", "near", {x})});
  const Conversion made = convert(net.graph, net.data(), recipe_for());
  const Graph& chip = made.chip;
  EXPECT_EQ(chip.find_operation("near")->input(0), chip.inputs()[0]);
  EXPECT_EQ(chip.find_operation("far")->input(0)->producer()->type(), "RequantizeLinear");
}

// Nothing of x is left in the result, which tells how it is read there.
TEST(Widening, AGraphInputIsStoredForAReaderThatLooksAtIt) {
  GraphBuilder net;
  Variable* x = net.input("x", {1, 6});
  Variable* updates = net.uniform("updates", {1, 6}, -0.1, 0.1);
  net.outputs({net.op("ScatterND", "covered", {x, net.constant("all", at::zeros({1, 1}, at::kLong)), updates}),
               net.op("Tanh", "reader", {x})});
  const Conversion made = convert(net.graph, net.data(), recipe_for());
  EXPECT_EQ(made.chip.find_operation("reader")->input(0), made.chip.inputs()[0]);
  EXPECT_EQ(made.chip.find_operation("covered")->input(0)->producer()->type(), "RequantizeLinear");
}

TEST(Widening, AGraphInputIsStoredForItsWidestReader) {
  GraphBuilder net;
  Variable* x = net.input("x", {1, 64});
  net.outputs({net.op("Tanh", "narrow", {x}), net.op("Neg", "wide", {x})});
  Recipe recipe = recipe_for();
  recipe.layers["wide"].width = Width::Int16;
  const Conversion made = convert(net.graph, net.data(), recipe);
  EXPECT_EQ(made.chip.inputs()[0]->storage()->dtype, at::kShort);
  EXPECT_EQ(made.chip.find_operation("wide")->input(0), made.chip.inputs()[0]);
}

}  // namespace
}  // namespace espq
