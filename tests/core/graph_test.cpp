#include "core/graph/graph.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/support/error.h"

namespace espq {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> names(const std::vector<const Operation*>& operations) {
  std::vector<std::string> result;
  result.reserve(operations.size());
  for (const Operation* operation : operations) result.push_back(operation->name());
  return result;
}

/// x -> a -> (b, c) -> d, with b and c inserted in reverse order.
Graph diamond() {
  Graph graph;
  Variable& x = graph.add_variable("x");
  Variable& a = graph.add_variable("va");
  Variable& b = graph.add_variable("vb");
  Variable& c = graph.add_variable("vc");
  Variable& y = graph.add_variable("y");
  graph.add_operation("Add", "d", {&b, &c}, {&y});
  graph.add_operation("Relu", "c", {&a}, {&c});
  graph.add_operation("Relu", "b", {&a}, {&b});
  graph.add_operation("Relu", "a", {&x}, {&a});
  graph.set_inputs({&x});
  graph.set_outputs({&y});
  return graph;
}

TEST(Graph, TopologicalOrderIsFifoOverUseLists) {
  const Graph graph = diamond();
  // `c` was linked to va before `b`, so the queue sees it first.
  EXPECT_THAT(names(graph.topological_order()), ElementsAre("a", "c", "b", "d"));
}

TEST(Graph, DuplicateOperandCountsTwice) {
  Graph graph;
  Variable& x = graph.add_variable("x");
  Variable& s = graph.add_variable("s");
  Variable& y = graph.add_variable("y");
  graph.add_operation("Mul", "mul", {&s, &s}, {&y});
  graph.add_operation("Relu", "relu", {&x}, {&s});
  graph.set_inputs({&x});
  graph.set_outputs({&y});
  EXPECT_EQ(graph.downstream(*graph.find_operation("relu")).size(), 2u);
  EXPECT_THAT(names(std::as_const(graph).topological_order()), ElementsAre("relu", "mul"));
}

TEST(Graph, CycleIsAnErrorThatNamesANode) {
  Graph graph;
  Variable& a = graph.add_variable("a");
  Variable& b = graph.add_variable("b");
  graph.add_operation("Relu", "first", {&b}, {&a});
  graph.add_operation("Relu", "second", {&a}, {&b});
  try {
    graph.topological_order();
    FAIL() << "a cycle was ordered";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr("first"));
  }
}

TEST(Graph, InsertBeforeKeepsThePlaceInTheUseList) {
  Graph graph = diamond();
  Operation& b = *graph.find_operation("b");
  Operation& inserted = graph.insert_before(*graph.find_operation("c"), 0, "Transpose", "t");
  const Variable& source = *graph.find_variable("va");
  EXPECT_EQ(source.uses()[0].operation, &inserted);
  EXPECT_EQ(source.uses()[1].operation, &b);
  EXPECT_EQ(graph.find_operation("c")->input(0), inserted.output());
}

TEST(Graph, BypassKeepsTheNameOfAGraphOutput) {
  Graph graph;
  Variable& x = graph.add_variable("x");
  Variable& m = graph.add_variable("m");
  Variable& y = graph.add_variable("y");
  graph.add_operation("Relu", "relu", {&x}, {&m});
  Operation& identity = graph.add_operation("Identity", "identity", {&m}, {&y});
  graph.set_inputs({&x});
  graph.set_outputs({&y});
  graph.bypass(identity);
  EXPECT_EQ(graph.find_operation("relu")->output()->name(), "y");
  EXPECT_EQ(graph.find_variable("m"), nullptr);
}

TEST(Graph, BypassBetweenInputAndOutputLeavesTheInput) {
  Graph graph;
  Variable& x = graph.add_variable("x");
  Variable& y = graph.add_variable("y");
  Operation& identity = graph.add_operation("Identity", "identity", {&x}, {&y});
  graph.set_inputs({&x});
  graph.set_outputs({&y});
  graph.bypass(identity);
  EXPECT_EQ(graph.outputs()[0], &x);
}

TEST(Graph, CloneIsDeepAndKeepsTies) {
  Graph graph = diamond();
  Operation& a = *graph.find_operation("a");
  a.set_quant({{.scale = graph.scales().create()}}, {{.scale = graph.scales().create()}});
  graph.scales().merge(a.input_quant()[0].scale, a.output_quant()[0].scale);
  Graph copy = graph.clone();
  copy.scales().set_exponents(copy.find_operation("a")->output_quant()[0].scale, {-5});
  EXPECT_THAT(slot_exponents(copy, copy.find_operation("a")->input_quant()[0]), ElementsAre(-5));
  EXPECT_TRUE(slot_exponents(graph, a.input_quant()[0]).empty());
  EXPECT_NE(copy.find_operation("a"), &a);
  EXPECT_EQ(copy.outputs()[0]->name(), "y");
  EXPECT_EQ(to_text(copy), to_text(copy.clone()));
}

TEST(Graph, NamesAreUnique) {
  Graph graph;
  graph.add_variable("x");
  EXPECT_THROW(graph.add_variable("x"), UserError);
  graph.add_operation("Relu", "r", {}, {});
  EXPECT_THROW(graph.add_operation("Relu", "r", {}, {}), UserError);
}

TEST(Graph, AttributeErrorsNameTheOperation) {
  Graph graph;
  Operation& operation = graph.add_operation("Concat", "join", {}, {}, {{"axis", int64_t{1}}});
  EXPECT_EQ(operation.int_attribute("axis"), 1);
  try {
    operation.ints_attribute("axis");
    FAIL() << "a wrong type was accepted";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr("join"));
  }
}

}  // namespace
}  // namespace espq
