#include <gtest/gtest.h>

#include <set>

#include "core/ops/operator.h"
#include "core/support/error.h"

using namespace espq;

TEST(Registry, EveryDefinitionIsComplete) {
  std::set<std::string_view> names;
  for (const OperatorDefinition& definition : operators().all()) {
    EXPECT_TRUE(names.insert(definition.name).second) << definition.name;
    EXPECT_NE(definition.forward, nullptr) << definition.name;
    EXPECT_FALSE(definition.outputs.empty()) << definition.name;
    const bool integer = definition.chip.kernels.int8 || definition.chip.kernels.int16;
    EXPECT_TRUE(!integer || definition.chip.board) << definition.name;
    EXPECT_TRUE(!definition.linear || definition.has_weights()) << definition.name;
    for (size_t i = 0; i + 1 < definition.inputs.size(); ++i)
      EXPECT_FALSE(definition.inputs[i].variadic) << definition.name;
    EXPECT_EQ(operators().find(definition.name), &definition);
  }
  EXPECT_EQ(operators().find("NoSuchOperator"), nullptr);
}

TEST(Registry, UnknownTypeNamesTheOperation) {
  Graph graph;
  Operation& operation = graph.add_operation("NoSuchOperator", "mystery", {}, {});
  try {
    definition_of(operation);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("mystery"), std::string::npos);
  }
}

TEST(Attributes, DefaultsAreFilledInAndLeftOutOfFiles) {
  Graph graph;
  Operation& conv = graph.add_operation("Conv", "c", {}, {}, {{"strides", std::vector<int64_t>{2, 2}}});
  normalize_attributes(conv);
  EXPECT_EQ(conv.int_attribute("group"), 1);
  EXPECT_EQ(conv.string_attribute("auto_pad"), "NOTSET");
  EXPECT_EQ(explicit_attributes(conv).size(), 1u);
  conv.set_attribute("group", int64_t{2});
  EXPECT_EQ(explicit_attributes(conv).size(), 2u);
}

TEST(Attributes, WrongNamesAndTypesAreErrors) {
  Graph graph;
  Operation& unknown = graph.add_operation("Conv", "a", {}, {}, {{"stridez", int64_t{2}}});
  EXPECT_THROW(normalize_attributes(unknown), UserError);
  Operation& wrong = graph.add_operation("Conv", "b", {}, {}, {{"group", std::string("2")}});
  EXPECT_THROW(normalize_attributes(wrong), UserError);
  Operation& missing = graph.add_operation("InsertZeros", "z", {}, {});
  EXPECT_THROW(normalize_attributes(missing), UserError);
}

TEST(Verify, FindsMissingOperands) {
  Graph graph;
  Variable& x = graph.add_variable("x");
  Variable& w = graph.add_parameter("w", at::ones({2, 3, 1, 1}));
  Variable& y = graph.add_variable("y");
  Operation& conv = graph.add_operation("Conv", "c", {&x, &w}, {&y});
  graph.add_input(x);
  EXPECT_NO_THROW(verify(graph));
  graph.set_input(conv, 1, nullptr);
  EXPECT_THROW(verify(graph), InternalError);
}
