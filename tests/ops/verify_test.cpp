// What a graph of each stage may not contain: one small graph per rule, which verify() has to name.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/ops/operator.h"
#include "core/support/error.h"

namespace espq {
namespace {

/// x -> Conv 'c' (weights w, bias b) -> y -> Sigmoid 's' -> z at the given stage, without a fault.
Graph network(Stage stage) {
  Graph graph;
  Variable& x = graph.add_variable("x");
  x.set_shape(Shape{1, 2, 3, 3});
  graph.add_input(x);
  Variable& w = graph.add_parameter("w", at::ones({4, 2, 1, 1}));
  Variable& b = graph.add_parameter("b", at::ones({4}));
  Variable& y = graph.add_variable("y");
  Variable& z = graph.add_variable("z");
  y.set_shape(Shape{1, 4, 3, 3});
  z.set_shape(Shape{1, 4, 3, 3});
  Operation& conv = graph.add_operation("Conv", "c", {&x, &w, &b}, {&y});
  Operation& sigmoid = graph.add_operation("Sigmoid", "s", {&y}, {&z});
  graph.add_output(z);
  normalize_attributes(conv);
  if (stage == Stage::Float) return graph;

  const auto slot = [&](SlotState state, int bits, std::vector<int> exponents) {
    SlotQuant result;
    result.state = state;
    result.bits = bits;
    result.scale = graph.scales().create();
    graph.scales().set_exponents(result.scale, std::move(exponents));
    return result;
  };
  graph.set_stage(Stage::Quantized);
  graph.set_target(&find_target("esp32p4"));
  for (Operation* operation : graph.operations()) operation->set_width(Width::Int8);
  SlotQuant weights = slot(SlotState::Quantizes, 8, {-7, -7, -6, -5});
  weights.channel_axis = 0;
  SlotQuant bias = slot(SlotState::QuantizesShared, 32, {-12, -12, -11, -10});
  bias.channel_axis = 0;
  conv.set_quant({slot(SlotState::Quantizes, 8, {-5}), weights, bias}, {slot(SlotState::Quantizes, 8, {-4})});
  sigmoid.set_quant({slot(SlotState::Carries, 8, {-4})}, {slot(SlotState::Quantizes, 8, {-7})});
  graph.scales().merge(sigmoid.input_quant()[0].scale, conv.output_quant()[0].scale);
  if (stage == Stage::Quantized) return graph;

  graph.set_stage(Stage::Chip);
  w.set_value(at::ones({4, 2, 1, 1}, at::kChar));
  w.set_storage(StorageFormat{at::kChar, {-7, -7, -6, -5}});
  b.set_value(at::ones({4}, at::kInt));
  b.set_storage(StorageFormat{at::kInt, {-12, -12, -11, -10}});
  x.set_storage(StorageFormat{at::kChar, {-5}});
  y.set_storage(StorageFormat{at::kChar, {-4}});
  z.set_storage(StorageFormat{at::kChar, {-7}});
  Variable& table = graph.add_parameter("table", at::zeros({256}, at::kChar));
  table.set_storage(StorageFormat{at::kChar, {-7}});
  for (Operation* operation : graph.operations()) operation->edit_chip().kernels = Width::Int8;
  conv.edit_chip().fused_relu = false;
  sigmoid.edit_chip().table = &table;
  return graph;
}

struct Fault {
  std::string name;
  Stage stage;
  void (*make)(Graph&, Operation& conv, Operation& sigmoid);
  std::string message;  ///< part of what verify() says
};

void PrintTo(const Fault& fault, std::ostream* out) { *out << fault.name; }

class Verify : public testing::TestWithParam<Fault> {};

TEST_P(Verify, NamesWhatTheStageMayNotContain) {
  const Fault& fault = GetParam();
  Graph graph = network(fault.stage);
  ASSERT_NO_THROW(verify(graph));
  fault.make(graph, *graph.find_operation("c"), *graph.find_operation("s"));
  EXPECT_THAT([&] { verify(graph); }, testing::ThrowsMessage<InternalError>(testing::HasSubstr(fault.message)));
}

using Op = Operation;
const Fault kFaults[] = {
    // Links, arity, attributes: at every stage.
    {"unknown_type", Stage::Float, [](Graph&, Op&, Op& s) { s.retype("Sigmund"); }, "unknown type Sigmund"},
    {"missing_operand", Stage::Float, [](Graph& g, Op& c, Op&) { g.set_input(c, 1, nullptr); }, "'W' is missing"},
    {"too_many_operands", Stage::Float, [](Graph& g, Op& c, Op& s) { g.append_input(s, c.input(0)); },
     "too many operands"},
    {"nothing_computes", Stage::Float, [](Graph& g, Op& c, Op&) { g.set_input(c, 0, &g.add_variable("lost")); },
     "nothing computes its operand 'lost'"},
    {"computed_constant", Stage::Float,
     [](Graph&, Op& c, Op&) {
       c.output()->set_value(at::ones({1, 4, 3, 3}));
     },
     "tensor 'y': is computed and a constant"},
    {"constant_input", Stage::Float, [](Graph& g, Op& c, Op&) { g.add_input(*c.input(1)); },
     "tensor 'w': is a graph input"},
    {"output_of_nothing", Stage::Float, [](Graph& g, Op&, Op&) { g.add_output(g.add_variable("lost")); },
     "tensor 'lost': is a graph output that nothing computes"},
    {"cycle", Stage::Float, [](Graph& g, Op& c, Op& s) { g.set_input(c, 0, s.output()); }, "cycle"},
    {"unknown_attribute", Stage::Float, [](Graph&, Op& c, Op&) { c.set_attribute("stridez", int64_t{1}); },
     "unknown attribute 'stridez'"},
    {"attribute_of_another_type", Stage::Float, [](Graph&, Op& c, Op&) { c.set_attribute("group", 1.0f); },
     "'group' is not an integer"},
    {"shape_of_a_constant", Stage::Float, [](Graph&, Op& c, Op&) { c.input(1)->set_shape(Shape{8}); },
     "tensor 'w': its shape is not that of its value"},
    {"dtype_of_a_constant", Stage::Float, [](Graph&, Op& c, Op&) { c.input(1)->set_dtype(at::kChar); },
     "tensor 'w': its dtype is not that of its value"},
    {"negative_dimension", Stage::Float,
     [](Graph&, Op& c, Op&) {
       c.input(0)->set_shape(Shape{1, -1});
     },
     "tensor 'x': has the dimension -1"},
    // Float
    {"quantized_in_float", Stage::Float, [](Graph&, Op&, Op& s) { s.set_quant({{}}, {{}}); },
     "Sigmoid 's': is quantized"},
    {"stored_in_float", Stage::Float,
     [](Graph&, Op& c, Op&) {
       c.output()->set_storage(StorageFormat{at::kChar, {-4}});
     },
     "'y': has a storage format"},
    {"permuted_in_float", Stage::Float,
     [](Graph&, Op& c, Op&) {
       c.output()->set_permutation({0, 2, 3, 1});
     },
     "'y': is permuted"},
    {"table_in_float", Stage::Float, [](Graph&, Op&, Op& s) { s.retype("LUT"); }, "LUT 's': no operator of this stage"},
    {"facts_in_float", Stage::Float, [](Graph&, Op& c, Op&) { c.edit_chip().fused_relu = true; },
     "Conv 'c': has facts of a chip operation"},
    // Quantized
    {"no_target", Stage::Quantized, [](Graph& g, Op&, Op&) { g.set_target(nullptr); }, "names its chip"},
    {"conversion_in_quantized", Stage::Quantized,
     [](Graph& g, Op&, Op& s) {
       g.append_input(s, &g.add_parameter("scale", at::scalar_tensor(1.0)));
       s.retype("QuantizeLinear");
     },
     "QuantizeLinear 's': no operator of this stage"},
    {"facts_in_quantized", Stage::Quantized, [](Graph&, Op& c, Op&) { c.edit_chip().kernels = Width::Int8; },
     "Conv 'c': has facts of a chip operation"},
    {"table_of_nothing", Stage::Quantized, [](Graph&, Op&, Op& s) { s.retype("LUT"); },
     "LUT 's': does not say which function"},
    {"stored_in_quantized", Stage::Quantized,
     [](Graph&, Op& c, Op&) {
       c.output()->set_storage(StorageFormat{at::kChar, {-4}});
     },
     "'y': has a storage format"},
    {"no_width", Stage::Quantized, [](Graph&, Op&, Op& s) { s.set_width(std::nullopt); },
     "is quantized without a width"},
    {"slot_without_scale", Stage::Quantized, [](Graph&, Op&, Op& s) { s.edit_output_quant(0).scale = kNoScale; },
     "Sigmoid 's': the slot of 'z' has no scale"},
    {"slot_beyond_the_scales", Stage::Quantized, [](Graph&, Op&, Op& s) { s.edit_output_quant(0).scale = 99; },
     "Sigmoid 's': the slot of 'z' has no scale"},
    {"shared_scale_node", Stage::Quantized,
     [](Graph&, Op& c, Op& s) { s.edit_output_quant(0).scale = c.input_quant()[0].scale; },
     "the slot of 'z' shares its scale node"},
    {"slot_without_bits", Stage::Quantized, [](Graph&, Op&, Op& s) { s.edit_output_quant(0).bits = 0; },
     "the slot of 'z' has 0 bits"},
    {"unknown_grid", Stage::Quantized,
     [](Graph& g, Op&, Op& s) { g.scales().set_exponents(s.output_quant()[0].scale, {}); },
     "the slot of 'z' rounds to an unknown grid"},
    {"several_exponents", Stage::Quantized,
     [](Graph& g, Op&, Op& s) {
       g.scales().set_exponents(s.output_quant()[0].scale, {-1, -2});
     },
     "the slot of 'z' has 2 exponents"},
    {"exponents_of_channels", Stage::Quantized,
     [](Graph& g, Op& c, Op&) {
       g.scales().set_exponents(c.input_quant()[1].scale, {-1, -2});
     },
     "2 exponents for the 4 channels of 'w'"},
    {"channels_of_no_axis", Stage::Quantized, [](Graph&, Op& c, Op&) { c.edit_input_quant(1).channel_axis = 4; },
     "'w' has no axis 4"},
    {"unknown_shape", Stage::Quantized, [](Graph&, Op&, Op& s) { s.output()->set_shape(std::nullopt); },
     "the shape of 'z' is not known"},
    {"grid_of_nothing", Stage::Quantized, [](Graph& g, Op& c, Op&) { g.set_input(c, 2, nullptr); },
     "the slot of an omitted operand has a grid"},
    // Chip
    {"no_chip", Stage::Chip, [](Graph& g, Op&, Op&) { g.set_target(nullptr); }, "names its chip"},
    {"value_of_another_dtype", Stage::Chip,
     [](Graph&, Op& c, Op&) {
       c.input(1)->set_value(at::ones({4, 2, 1, 1}));
     },
     "tensor 'w': its value is Float, its storage Char"},
    {"stored_as_float", Stage::Chip,
     [](Graph&, Op& c, Op&) {
       c.output()->set_storage(StorageFormat{at::kFloat, {-4}});
     },
     "tensor 'y': Float cannot store integers"},
    {"stored_without_exponent", Stage::Chip,
     [](Graph&, Op& c, Op&) {
       c.output()->set_storage(StorageFormat{at::kChar, {}});
     },
     "tensor 'y': stores integers without an exponent"},
    {"computed_per_channel", Stage::Chip,
     [](Graph&, Op& c, Op&) {
       c.output()->set_storage(StorageFormat{at::kChar, {-4, -4, -4, -4}});
     },
     "tensor 'y': has 4 exponents"},
    {"exponents_of_a_constant", Stage::Chip,
     [](Graph&, Op& c, Op&) {
       c.input(1)->set_storage(StorageFormat{at::kChar, {-4, -4, -4}});
     },
     "tensor 'w': 3 exponents do not fit its shape"},
    {"table_not_stored", Stage::Chip,
     [](Graph& g, Op&, Op& s) { s.edit_chip().table = &g.add_parameter("other", at::zeros({256})); },
     "its table 'other' is no stored constant of its own"},
    {"table_of_another_graph", Stage::Chip,
     [](Graph&, Op&, Op& s) {
       static const Graph other = network(Stage::Chip);
       s.edit_chip().table = other.find_variable("table");
     },
     "Sigmoid 's': its table was removed"},
    {"integer_kernels_for_floats", Stage::Chip,
     [](Graph&, Op& c, Op& s) {
       c.edit_chip().kernels = Width::Float;
       for (Variable* variable : {c.output(), s.output()}) variable->set_storage(std::nullopt);
     },
     "Sigmoid 's': none of its tensors is stored as integers"},
};

INSTANTIATE_TEST_SUITE_P(Faults, Verify, testing::ValuesIn(kFaults), [](const auto& info) { return info.param.name; });

TEST(ChipFacts, TablesFollowTheirGraph) {
  Graph graph = network(Stage::Chip);
  Variable& table = *graph.find_variable("table");
  EXPECT_THROW(graph.remove(table), InternalError);
  graph.rename(table, "renamed");
  const Graph copy = graph.clone();
  EXPECT_EQ(copy.find_operation("s")->chip().table, copy.find_variable("renamed"));
  EXPECT_NO_THROW(verify(copy));
  graph.find_operation("s")->edit_chip().table = nullptr;
  EXPECT_NO_THROW(graph.remove(table));
}

TEST(GraphText, ShowsWhatTheStageAdds) {
  EXPECT_EQ(to_text(network(Stage::Float)),
            "graph '' (%x[1x2x3x3])\n"
            "  %y[1x4x3x3] = Conv 'c' (%x[1x2x3x3], %w[4x2x1x1], %b[4]) {auto_pad='NOTSET', group=1}\n"
            "  %z[1x4x3x3] = Sigmoid 's' (%y[1x4x3x3]) {}\n"
            "return %z[1x4x3x3]\n");
  EXPECT_EQ(to_text(network(Stage::Quantized)),
            "quantized graph '' for esp32p4 (%x[1x2x3x3])\n"
            "  %y[1x4x3x3]{quantizes 8 bit @-4 #4} = Conv 'c' (%x[1x2x3x3]{quantizes 8 bit @-5 #1}, "
            "%w[4x2x1x1]{quantizes 8 bit axis 0 @-7,-7,-6,-5 #2}, %b[4]{shared 32 bit axis 0 @-12,-12,-11,-10 #3}) "
            "{auto_pad='NOTSET', group=1} int8\n"
            "  %z[1x4x3x3]{quantizes 8 bit @-7 #5} = Sigmoid 's' (%y[1x4x3x3]{carries 8 bit @-4 #4}) {} int8\n"
            "return %z[1x4x3x3]\n");
  EXPECT_EQ(to_text(network(Stage::Chip)),
            "chip graph '' for esp32p4 (%x[1x2x3x3]:Char@-5)\n"
            "  %y[1x4x3x3]:Char@-4 = Conv 'c' (%x[1x2x3x3]:Char@-5, %w[4x2x1x1]:Char@-7,-7,-6,-5, "
            "%b[4]:Int@-12,-12,-11,-10) {auto_pad='NOTSET', group=1} int8 linear\n"
            "  %z[1x4x3x3]:Char@-7 = Sigmoid 's' (%y[1x4x3x3]:Char@-4) {} int8 table %table[256]:Char@-7\n"
            "return %z[1x4x3x3]:Char@-7\n");
}

}  // namespace
}  // namespace espq
