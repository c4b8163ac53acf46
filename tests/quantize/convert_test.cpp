#include "passes/pipeline/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/support/error.h"
#include "passes/run.h"
#include "tests/support/graph_builder.h"
#include "tests/user_error.h"

namespace espq {
namespace {

using namespace test;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// Conv, Relu, Add of the input: aligned, fused, and with room for 20-bit sums to overflow.
GraphBuilder small_network() {
  GraphBuilder net;
  Variable* x = net.input("x", {1, 8, 6, 6});
  Variable* relu = net.op("Relu", "relu", {net.conv("conv", x, 8)});
  net.outputs({net.op("Add", "add", {relu, x})});
  return net;
}

void expect_same_constants(const Graph& a, const Graph& b) {
  EXPECT_EQ(to_text(a), to_text(b));
  for (const Variable* variable : a.variables()) {
    if (!variable->is_parameter()) continue;
    EXPECT_TRUE(at::equal(variable->value(), b.find_variable(variable->name())->value())) << variable->name();
  }
}

TEST(Convert, LeavesTheNetworkAlone) {
  const GraphBuilder net = small_network();
  const uint64_t revision = net.graph.revision();
  const Graph before = net.graph.clone();
  const Conversion made = convert(net.graph, net.data());
  EXPECT_EQ(net.graph.revision(), revision);
  expect_same_constants(before, net.graph);
  EXPECT_EQ(net.graph.stage(), Stage::Float);
  EXPECT_TRUE(made.chip.is_chip());
  EXPECT_FALSE(made.quantized.is_chip());
  EXPECT_EQ(made.quantized.target()->name, "esp32p4");
}

TEST(Convert, KeepsTheReportOfEveryPass) {
  const GraphBuilder net = small_network();
  Recipe recipe;
  recipe.simplify.reset();
  recipe.accumulators.reset();
  const Report report = convert(net.graph, net.data(), recipe).report;
  for (const char* pass : {"infer_shapes", "assign_widths", "calibrate", "settle", "check_consistency"})
    EXPECT_NE(report.find(pass), nullptr) << pass;
  EXPECT_EQ(report.find("merge_chains"), nullptr);
  EXPECT_EQ(report.find("fit_accumulators"), nullptr);
  EXPECT_FALSE(report.find("infer_shapes")->changed());
  EXPECT_GT(report.find("calibrate")->seconds, 0);
}

TEST(Convert, FinishMakesTheSameOfAGraphThatDidNotChange) {
  const GraphBuilder net = small_network();
  Recipe recipe;
  recipe.target = "esp32s3";
  const Conversion made = convert(net.graph, net.data(), recipe);
  const Conversion again = finish(made.quantized, net.data(), recipe);
  expect_same_constants(made.chip, again.chip);
  EXPECT_EQ(again.report.find("calibrate"), nullptr);
  EXPECT_FALSE(again.report.find("settle")->changed()) << to_text(*again.report.find("settle"));
}

TEST(Convert, PrepareGivesTheNamesThatRecipesUse) {
  GraphBuilder net = small_network();
  net.graph.set_outputs({net.op("Identity", "last", {net.graph.find_variable("add")})});
  const Graph prepared = prepare(net.graph);
  EXPECT_THAT(operation_names(prepared), ElementsAre("conv", "relu", "add"));
}

TEST(RunPass, NamesAPassThatBreaksTheGraph) {
  GraphBuilder net = small_network();
  const auto breaks = [](Graph& graph) {
    PassReport report{"breaks"};
    graph.find_operation("add")->retype("Nonsense");
    report.count("type spoiled");
    return report;
  };
  ASSERT_TRUE(verify_passes()) << "tests/support/main.cpp switches it on";
  try {
    run_pass(net.graph, breaks);
    FAIL() << "nothing was thrown";
  } catch (const InternalError& error) {
    EXPECT_THAT(error.what(), HasSubstr("after pass breaks"));
    EXPECT_THAT(error.what(), HasSubstr("Nonsense"));
  }
}

TEST(RunPass, FindsAPassThatReportsChangesItDidNotMake) {
  GraphBuilder net = small_network();
  const auto lies = [](Graph&) {
    PassReport report{"lies"};
    report.count("operation");
    return report;
  };
  EXPECT_THROW(run_pass(net.graph, lies), InternalError);
}

TEST(PassReport, TellsChangesAndNotesApart) {
  PassReport report{"pass"};
  report.note("tensor", 3);
  EXPECT_FALSE(report.changed());
  report.count("folded", "a");
  report.count("folded", "b", 0);
  report.count("folded", "c", 2);
  EXPECT_TRUE(report.changed());
  EXPECT_EQ(report.total(), 3);
  EXPECT_EQ(report.times("tensor"), 3);
  EXPECT_EQ(to_text(report), "pass (0.000 s): folded x 3 (a, c); tensor x 3");
}

}  // namespace
}  // namespace espq
