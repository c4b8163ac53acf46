#include "passes/optimize/blocks.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "core/exec/executor.h"
#include "core/ops/operator.h"
#include "passes/pipeline/convert.h"
#include "tests/support/graph_builder.h"
#include "tests/user_error.h"

namespace espq {
namespace {

using test::GraphBuilder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Names = std::vector<std::string>;

Names operations_of(const Block& block) {
  Names names;
  for (const Operation* operation : block.operations) names.push_back(operation->name());
  return names;
}

/// Two residual bottlenecks, a branched pool and a classifier.
Graph residual_network() {
  GraphBuilder net;
  Variable* x = net.op("Relu", "stem_relu", {net.conv("stem", net.input({1, 3, 8, 8}), 4)});
  for (const std::string name : {"a", "b"}) {
    Variable* wide = net.op("Relu", name + "_relu", {net.conv(name + "_expand", x, 8, 1)});
    Variable* narrow =
        net.conv(name + "_project", net.op("Relu", name + "_mid", {net.conv(name + "_middle", wide, 8)}), 4, 1);
    x = net.op("Add", name + "_add", {x, narrow});
  }
  Variable* left = net.conv("left", x, 3, 1);
  Variable* right = net.op("Relu", "right_relu", {net.conv("right", x, 2)});
  net.output(net.op("Concat", "join", {left, right}, {{"axis", int64_t{1}}}));
  return std::move(net.graph);
}

TEST(Blocks, AreCutWhereOneTensorPasses) {
  const Graph graph = residual_network();
  std::vector<Names> names;
  for (const Block& block : blocks(graph, 4)) names.push_back(operations_of(block));
  EXPECT_THAT(names,
              ElementsAre(Names{"stem", "stem_relu", "a_expand", "a_relu", "a_middle", "a_mid", "a_project", "a_add"},
                          Names{"b_expand", "b_relu", "b_middle", "b_mid", "b_project", "b_add"},
                          Names{"left", "right", "right_relu", "join"}));
}

TEST(Blocks, BranchesThatEndInTheNetworksResultsAreFinishedOneByOne) {
  GraphBuilder net;
  Variable* x = net.input({1, 3, 8, 8});
  Variable* a = net.conv("a2", net.conv("a1", x, 4), 4);
  Variable* b = net.conv("b2", net.conv("b1", x, 4), 4);
  net.outputs({b, a});
  const auto pieces = blocks(net.graph, 2);
  ASSERT_EQ(pieces.size(), 2u);
  EXPECT_THAT(operations_of(pieces[0]), ElementsAre("b1", "b2"));
  EXPECT_THAT(operations_of(pieces[1]), ElementsAre("a1", "a2"));
  EXPECT_THAT(names_of(pieces[1].inputs), ElementsAre("x"));
}

/// For every size: each operation once, inputs known from before, and run one after the other they are the network.
void expect_blocks_are_the_network(const Graph& graph, Precision precision) {
  Executor executor(graph, precision);
  at::manual_seed(3);
  const at::Tensor x = at::randn(*graph.inputs()[0]->shape());
  const Tensors want = executor.run(Tensors{x});
  for (int64_t size = 1; size < 12; ++size) {
    std::map<const Variable*, at::Tensor> values{{graph.inputs()[0], x}};
    std::vector<const Operation*> seen;
    for (const Block& block : blocks(graph, size)) {
      Tensors feeds;
      for (const Variable* input : block.inputs) feeds.push_back(values.at(input));
      const Tensors results = executor.compile(block.operations, block.inputs, block.outputs).run(feeds);
      for (size_t i = 0; i < results.size(); ++i) values[block.outputs[i]] = results[i];
      seen.insert(seen.end(), block.operations.begin(), block.operations.end());
    }
    EXPECT_EQ(seen.size(), graph.operation_count()) << size;
    EXPECT_THAT(seen, ::testing::UnorderedElementsAreArray(graph.operations())) << size;
    for (size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(at::equal(values.at(graph.outputs()[i]), want[i])) << size;
  }
}

TEST(Blocks, RunOneAfterTheOtherAreTheNetwork) {
  const Graph graph = residual_network();
  expect_blocks_are_the_network(graph, Precision::Float);
  std::vector<Dataset::Batch> data;
  data.reserve(3);
  for (int i = 0; i < 3; ++i) data.push_back({{"", at::randn({1, 3, 8, 8})}});
  const Graph quantized = convert(graph, Dataset(std::move(data))).quantized;
  expect_blocks_are_the_network(quantized, Precision::Simulated);
}

TEST(Blocks, NeverPartAConvolutionFromItsRelu) {
  const Graph graph = residual_network();
  for (const Block& block : blocks(graph, 1)) {
    EXPECT_FALSE(definition_of(*block.operations.front()).quantization.fused_activation)
        << block.operations.front()->name();
    for (const Variable* output : block.outputs)
      for (const ConstUse use : output->uses()) EXPECT_NE(use.operation->type(), "Relu") << output->name();
  }
}

TEST(Blocks, OfAnotherGraphAreTheSameByName) {
  const Graph graph = residual_network(), copy = graph.clone();
  const Block block = blocks(graph, 4)[1], same = same_block(block, copy);
  EXPECT_EQ(operations_of(same), operations_of(block));
  EXPECT_EQ(same.inputs.front(), copy.find_variable(block.inputs.front()->name()));
  GraphBuilder other;
  other.output(other.conv("stem", other.input({1, 3, 8, 8}), 4));
  EXPECT_THAT(test::user_error_of([&] { same_block(block, other.graph); }), HasSubstr("no operation 'b_expand'"));
}

TEST(Blocks, OfNoSizeAreRefused) {
  EXPECT_THAT(test::user_error_of([] { blocks(residual_network(), 0); }), HasSubstr("give 1 or more"));
}

}  // namespace
}  // namespace espq
