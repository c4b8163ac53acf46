#include <gmock/gmock.h>

#include "passes/simplify/merge_clamps.h"
#include "passes/simplify/remove_dead_code.h"
#include "passes/simplify/simplify.h"
#include "tests/simplify/same_function.h"
#include "tests/support/graph_builder.h"

namespace espq {
namespace {

using namespace test;
using ::testing::ElementsAre;

/// The types that are left after the pass; the function stays the same.
std::vector<std::string> merged(GraphBuilder& net) {
  const Graph before = net.graph.clone();
  merge_clamps(net.graph);
  remove_dead_code(net.graph);
  expect_same_function(before, net.graph);
  return types(net.graph);
}

TEST(MergeClamps, JoinsWhatFollowsOneAnother) {
  GraphBuilder net;
  Variable* x = net.op("Clip", "clip", {net.op("Relu", {net.input({2, 40})}), net.scalar(-1), net.scalar(0.5)});
  net.output(net.op("Clip", "last", {x, net.scalar(0.1)}));
  EXPECT_THAT(merged(net), ElementsAre("Clip"));
  const Operation& clip = *net.graph.find_operation("last");
  EXPECT_FLOAT_EQ(clip.input(1)->value().item<float>(), 0.1F);
  EXPECT_FLOAT_EQ(clip.input(2)->value().item<float>(), 0.5F);
}

TEST(MergeClamps, FromZeroUpIsARelu) {
  const float largest = std::numeric_limits<float>::max();
  for (int spelling = 0; spelling < 4; ++spelling) {
    GraphBuilder net;
    Variable* x = net.input({2, 40});
    net.output(spelling == 0   ? net.op("Clip", {x, net.scalar(0)})
               : spelling == 1 ? net.op("Clip", {x, net.scalar(0), net.scalar(largest)})
               : spelling == 2 ? net.op("Max", {net.scalar(0), x})
                               : net.op("Max", {net.op("Clip", {x, net.scalar(-1)}), net.scalar(0)}));
    EXPECT_THAT(merged(net), ElementsAre("Relu")) << spelling;
  }
}

TEST(MergeClamps, MinAndMaxBecomeClip) {
  GraphBuilder net;
  Variable* x = net.op("Min", {net.input({2, 40}), net.scalar(0.5)});
  net.output(net.op("Neg", {net.op("Max", {x, net.scalar(-0.5)})}));
  EXPECT_THAT(merged(net), ElementsAre("Clip", "Neg"));
}

TEST(MergeClamps, OneElementOfSeveralAxesIsABound) {
  GraphBuilder net;
  Variable* x = net.input({2, 40});
  net.output(net.op("Neg", {net.op("Min", {net.constant(at::full({1, 1}, 0.5F)), x})}));
  net.output(net.op("Neg", {net.op("Max", {x, net.constant(at::full({1, 1, 1}, 0.5F))})}));  // [1, 2, 40]
  EXPECT_THAT(merged(net), testing::UnorderedElementsAre("Clip", "Neg", "Max", "Neg"));
}

TEST(MergeClamps, WithoutBoundsGoes) {
  GraphBuilder net;
  Variable* x = net.op("Relu", {net.input({2, 40})});
  net.output(net.op("Neg", {net.op("Clip", {x})}));
  EXPECT_THAT(merged(net), ElementsAre("Relu", "Neg"));
}

TEST(MergeClamps, LeavesWhatOthersReadAndBoundsThatAreComputed) {
  GraphBuilder net;
  Variable* x = net.op("Relu", {net.input({2, 40})});  // is an output, too
  net.output(x);
  net.output(net.op("Clip", {x, net.scalar(0.25), net.scalar(0.5)}));
  net.output(net.op("Max", {x, net.op("ReduceMean", {x})}));
  EXPECT_FALSE(merge_clamps(net.graph).changed());
}

TEST(MergeClamps, LeavesBoundsThatDoNotMeet) {
  GraphBuilder net;
  net.output(net.op("Clip", {net.op("Relu", {net.input({2, 40})}), net.scalar(-2), net.scalar(-1)}));
  EXPECT_FALSE(merge_clamps(net.graph).changed());
}

TEST(MergeClamps, TheSimplifierRunsItUnlessItIsOff) {
  for (const bool wanted : {true, false}) {
    GraphBuilder net;
    net.output(net.op("Max", {net.conv(net.input({1, 3, 8, 8}), 4), net.scalar(0)}));
    simplify(net.graph, {.merge_clamps = wanted});
    EXPECT_THAT(types(net.graph), ElementsAre("Conv", wanted ? "Relu" : "Max"));
  }
}

}  // namespace
}  // namespace espq
