// Written models: ONNX's checker accepts them, and they come back as the network that was written.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "core/exec/executor.h"
#include "core/support/error.h"
#include "core/support/file.h"
#include "export/onnx/onnx_export.h"
#include "tests/onnx_frontend/onnx_checker.h"
#include "tests/onnx_frontend/onnx_model_builder.h"

namespace espq {
namespace {

using testing::HasSubstr;

class OnnxExport : public testing::Test {
 protected:
  std::filesystem::path file_ = std::filesystem::temp_directory_path() / fmt::format("espq_export_{}.onnx", ::getpid());
  void TearDown() override { std::filesystem::remove(file_); }

  Graph round_trip(const Graph& graph) {
    export_onnx(graph, file_);
    EXPECT_EQ(test::onnx_complaint(read_file(file_)), "");
    return import_onnx(file_);
  }
};

Operation& add(Graph& graph, const std::string& type, const std::string& name, std::vector<Variable*> inputs,
               const std::string& output, AttributeMap attributes = {}) {
  Operation& operation =
      graph.add_operation(type, name, std::move(inputs), {&graph.add_variable(output)}, std::move(attributes));
  normalize_attributes(operation);
  return operation;
}

/// A network as a program would build it: no file in between, shapes of the intermediates unknown.
Graph handmade() {
  Graph graph;
  graph.name = "handmade";
  Variable& x = graph.add_variable("x");
  x.set_shape(Shape{1, 2, 6, 6});
  graph.set_inputs({&x});
  at::manual_seed(3);
  const std::vector<int64_t> ones{1, 1}, pads{1, 1, 1, 1}, kernel{3, 3};
  Operation& conv =
      add(graph, "Conv", "conv",
          {&x, &graph.add_parameter("w", at::rand({4, 2, 3, 3})), &graph.add_parameter("b", at::rand({4}))}, "h",
          {{"kernel_shape", kernel}, {"pads", pads}, {"strides", ones}, {"dilations", ones}});
  Operation& swish = add(graph, "Swish", "swish", {conv.output()}, "s");
  Operation& clip =
      add(graph, "Clip", "clip", {swish.output(), nullptr, &graph.add_parameter("six", at::scalar_tensor(6.0f))}, "c");
  add(graph, "Flatten", "flatten", {clip.output()}, "y", {{"axis", int64_t{1}}});
  graph.set_outputs({graph.find_variable("y")});
  return graph;
}

TEST_F(OnnxExport, ComesBackAsTheSameFunction) {
  const Graph graph = handmade();
  const Graph back = round_trip(graph);
  const at::Tensor input = at::rand({1, 2, 6, 6});
  const auto expected = Executor(graph, Precision::Float).run(Tensors{input});
  const auto actual = Executor(back, Precision::Float).run(Tensors{input});
  EXPECT_TRUE(at::allclose(actual[0], expected[0], 0, 1e-6)) << "Swish is written as two operators";
  EXPECT_EQ(back.name, "handmade");
  EXPECT_EQ(back.operation_count(), graph.operation_count() + 1);
  EXPECT_EQ(back.find_operation("conv")->attributes().size(), graph.find_operation("conv")->attributes().size());
  EXPECT_EQ(back.find_operation("clip")->input(1), nullptr);
}

TEST_F(OnnxExport, SwishKeepsItsSlope) {
  Graph graph = handmade();
  graph.find_operation("swish")->set_attribute("alpha", 1.7f);
  const Graph back = round_trip(graph);
  const at::Tensor input = at::rand({1, 2, 6, 6});
  EXPECT_TRUE(at::allclose(Executor(back, Precision::Float).run(Tensors{input})[0],
                           Executor(graph, Precision::Float).run(Tensors{input})[0], 0, 1e-6));
}

TEST_F(OnnxExport, TakesALaterOpsetOnlyWhenItMust) {
  Graph graph = handmade();
  export_onnx(graph, file_);
  EXPECT_EQ(onnx_file::read_model(file_).opsets.at(""), 18);
  graph.find_operation("swish")->retype("Gelu");
  graph.find_operation("swish")->set_attributes({});
  normalize_attributes(*graph.find_operation("swish"));
  export_onnx(graph, file_);
  EXPECT_EQ(onnx_file::read_model(file_).opsets.at(""), 20);
  EXPECT_EQ(test::onnx_complaint(read_file(file_)), "");
}

TEST_F(OnnxExport, RefusesWhatOnnxDoesNotHave) {
  Graph graph = handmade();
  graph.find_operation("swish")->retype("InsertZeros");
  graph.find_variable("y")->set_shape(Shape{1, 144});
  EXPECT_THAT(test::user_error_of([&] { export_onnx(graph, file_); }), HasSubstr("InsertZeros 'swish'"));
  EXPECT_FALSE(std::filesystem::exists(file_));
  EXPECT_THAT(test::user_error_of([&] { export_onnx(handmade(), "/nonexistent/x.onnx"); }), HasSubstr("/nonexistent"));
}

}  // namespace
}  // namespace espq
