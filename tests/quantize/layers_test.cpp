// What single operations do differently: which operations a key means, and which key wins.
#include "passes/quantize/layers.h"

#include <gmock/gmock.h>

#include "core/support/error.h"
#include "tests/support/graph_builder.h"

namespace espq {
namespace {

using namespace test;
using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(Layers, PatternsStandForNames) {
  for (const auto& [pattern, name, expected] :
       std::vector<std::tuple<const char*, const char*, bool>>{{"/backbone/conv*", "/backbone/conv1/Conv", true},
                                                               {"/backbone/conv*", "/head/backbone/conv1", false},
                                                               {"*conv?", "/backbone/conv1", true},
                                                               {"*conv?", "/backbone/conv12", false},
                                                               {"*", "", true},
                                                               {"?", "", false},
                                                               {"a*b*c", "a_bb_c", true},
                                                               {"a*b*c", "a_c_b", false},
                                                               {"*/Conv", "/a/Conv/b/Conv", true},
                                                               {"Conv", "Conv", true},
                                                               {"Conv", "Conv2", false}})
    EXPECT_EQ(matches(pattern, name), expected) << pattern << " " << name;
}

GraphBuilder three_functions() {
  GraphBuilder net;
  Variable* x = net.op("Tanh", "a/Tanh", {net.input("x", {1, 4})});
  net.outputs({net.op("Sigmoid", "a/Sigmoid", {x}), net.op("Sigmoid", "b/Sigmoid", {x})});
  return net;
}

TEST(Layers, TheMostSpecificKeyWinsFieldByField) {
  GraphBuilder net = three_functions();
  const LayerTable table(net.graph, {{"*", {Width::Int8, Observer::MinMax, Observer::Percentile}},
                                     {"*Sigmoid", {.width = Width::Int16}},
                                     {"a/Sigmoid", {.observer = Observer::KlDivergence}}});
  const auto of = [&](const char* name) { return table.of(net.operation(name)); };
  EXPECT_EQ(of("a/Tanh"), (LayerOptions{Width::Int8, Observer::MinMax, Observer::Percentile}));
  EXPECT_EQ(of("b/Sigmoid"), (LayerOptions{Width::Int16, Observer::MinMax, Observer::Percentile}));
  EXPECT_EQ(of("a/Sigmoid"), (LayerOptions{Width::Int16, Observer::KlDivergence, Observer::Percentile}));
  EXPECT_EQ(LayerTable(net.graph, {}).of(net.operation("a/Tanh")), LayerOptions());
}

TEST(Layers, ANameThatHoldsWildcardsMeansThatOperation) {
  GraphBuilder net;
  Variable* x = net.input("x", {1, 4});
  net.outputs({net.op("Tanh", "t*", {x}), net.op("Tanh", "t1", {x})});
  const LayerTable table(net.graph, {{"t*", {.width = Width::Int16}}});
  EXPECT_EQ(table.of(net.operation("t*")).width, Width::Int16);
  EXPECT_EQ(table.of(net.operation("t1")).width, std::nullopt);
}

TEST(Layers, MistakesAreNamed) {
  GraphBuilder net = three_functions();
  const auto making = [&](const Layers& layers) { return [&net, layers] { LayerTable(net.graph, layers); }; };
  EXPECT_THAT(making({{"a/Sigmoi", {}}}), ThrowsMessage<UserError>(HasSubstr("did you mean 'a/Sigmoid'")));
  EXPECT_THAT(making({{"b/Tanh*", {}}}), ThrowsMessage<UserError>(HasSubstr("no operation like 'b/Tanh*'")));
  const LayerOptions wide{Width::Int16}, narrow{Width::Int8};
  EXPECT_THAT(making({{"a/S*", wide}, {"*oid", narrow}}),
              ThrowsMessage<UserError>(AllOf(HasSubstr("'*oid' and 'a/S*' are equally specific"),
                                             HasSubstr("the width of operation 'a/Sigmoid'"))));
  EXPECT_NO_THROW(making({{"a/S*", wide}, {"*oid", wide}})());
  EXPECT_NO_THROW(making({{"a/S*", wide}, {"*oid", narrow}, {"a/Sigmoid", narrow}})());
}

}  // namespace
}  // namespace espq
