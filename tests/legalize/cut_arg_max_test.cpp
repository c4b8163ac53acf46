// A network that ends in a search ends in front of it.
#include "passes/legalize/cut_arg_max.h"

#include <gmock/gmock.h>

#include "core/exec/executor.h"
#include "passes/pipeline/check.h"
#include "passes/pipeline/convert.h"
#include "tests/support/graph_builder.h"

namespace espq::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

/// TopK of one element, without the axis of one element behind, as a network gives it.
Variable* place_of_largest(GraphBuilder& net, Variable* scores) {
  const auto found = net.op_with_results(2, "TopK", "search", {scores, net.integers({1})}, {{"axis", int64_t{1}}});
  return net.op("Squeeze", "place", {found[1], net.integers({1})});
}

TEST(CutArgMax, EndsInFrontOfTheSearchAndSaysSo) {
  GraphBuilder net;
  Variable* scores = net.conv("scores", net.input("x", {1, 3, 6, 5}), 4);
  net.outputs({net.op("Cast", "number", {place_of_largest(net, scores)}, {{"to", int64_t{6}}})});
  const Dataset data = net.data(1);
  const at::Tensor places = Executor(net.graph, Precision::Float).run(data.inputs(net.graph, 0)).at(0);
  const PassReport report = cut_arg_max(net.graph);
  verify(net.graph);
  EXPECT_EQ(report.times("search left to the application"), 3);
  EXPECT_THAT(report.warnings, ElementsAre(AllOf(HasSubstr("largest element of 'scores' along axis 1"),
                                                 HasSubstr("'scores' is the output instead"))));
  EXPECT_THAT(types(net.graph), ElementsAre("Conv"));
  const at::Tensor searched = Executor(net.graph, Precision::Float).run(data.inputs(net.graph, 0)).at(0);
  EXPECT_TRUE(at::equal(at::argmax(searched, 1).to(places.scalar_type()), places));
}

TEST(CutArgMax, ChecksAndConvertsWhatIsLeft) {
  GraphBuilder net;
  net.outputs({place_of_largest(net, net.conv("scores", net.input("x", {1, 3, 6, 5}), 4))});
  for (const CheckedOperation& operation : check_network(net.graph, {}))
    EXPECT_EQ(operation.verdict, operation.type == "Conv" ? Verdict::Runs : Verdict::Rewritten) << operation.name;
  const Conversion made = convert(net.graph, net.data(), {});
  ASSERT_EQ(made.chip.outputs().size(), 1U);
  EXPECT_EQ(made.chip.outputs()[0]->name(), "scores");
}

TEST(CutArgMax, LeavesPlacesThatTheNetworkReadsAndInputs) {
  GraphBuilder net;
  Variable* x = net.input("x", {1, 3, 6, 5});
  Variable* place = place_of_largest(net, net.conv("scores", x, 4));
  net.outputs({place, net.op("Cast", "number", {place}, {{"to", int64_t{1}}})});
  EXPECT_FALSE(cut_arg_max(net.graph).changed());

  GraphBuilder whole;
  whole.outputs({place_of_largest(whole, whole.input("x", {1, 3, 6, 5}))});
  EXPECT_FALSE(cut_arg_max(whole.graph).changed());

  GraphBuilder values;
  const auto found = values.op_with_results(
      2, "TopK", "search", {values.conv("scores", values.input("x", {1, 3, 6, 5}), 4), values.integers({1})});
  values.outputs({found[0], found[1]});
  EXPECT_FALSE(cut_arg_max(values.graph).changed());
}

}  // namespace
}  // namespace espq::test
