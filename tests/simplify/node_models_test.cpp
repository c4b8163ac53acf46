// ONNX's own operator tests, among them many operators written out as arithmetic ("expanded"): whatever the imported
// graph computes correctly, the simplified one has to compute correctly, too.
#include <gtest/gtest.h>

#include <iostream>

#include "core/support/error.h"
#include "onnx_file/tensor.h"
#include "onnx_frontend/onnx_frontend.h"
#include "parity/format.h"
#include "passes/simplify/decompose_conv_transpose.h"
#include "passes/simplify/simplify.h"
#include "tests/simplify/same_function.h"
#include "tests/support/graph_builder.h"

namespace espq {
namespace {

using namespace test;
namespace fs = std::filesystem;

Tensors read_tensors(const fs::path& folder, const std::string& prefix) {
  Tensors result;
  for (fs::path file; fs::exists(file = folder / fmt::format("{}_{}.pb", prefix, result.size()));)
    result.push_back(onnx_file::to_tensor(onnx_file::read_tensor(file)));
  return result;
}

struct Sample {
  Tensors inputs, outputs;
};

/// What decides shapes or is no float becomes a constant: networks for a chip have those fixed.
Tensors fix_operands(Graph& graph, const Tensors& inputs) {
  Tensors left;
  std::vector<Variable*> open;
  for (size_t i = 0; i < inputs.size(); ++i) {
    Variable* input = graph.inputs()[i];
    bool fixed = !inputs[i].is_floating_point();
    for (const Use& use : input->uses())
      fixed |= definition_of(*use.operation).input_spec(use.slot).role == OperandRole::Index;
    if (fixed && !graph.is_output(input)) {
      input->set_value(inputs[i]);
    } else {
      open.push_back(input);
      left.push_back(inputs[i]);
    }
  }
  graph.set_inputs(open);
  return left;
}

/// ONNX's own tolerance.
bool same(const Tensors& actual, const Tensors& expected) {
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!actual[i].defined() || actual[i].sizes() != expected[i].sizes()) return false;
    if (actual[i].scalar_type() != expected[i].scalar_type()) return false;
    if (!at::allclose(actual[i].to(at::kDouble), expected[i].to(at::kDouble), 1e-3, 1e-7, true)) return false;
  }
  return true;
}

enum class Outcome { NotImported, Unchanged, Changed, Wrong };

template <typename Pass>
Outcome run_case(const fs::path& folder, Pass&& pass) {
  Sample sample;
  Graph graph;
  Tensors inputs;
  try {
    sample = {read_tensors(folder / "test_data_set_0", "input"), read_tensors(folder / "test_data_set_0", "output")};
    graph = import_onnx(folder / "model.onnx");
    if (graph.inputs().size() != sample.inputs.size()) return Outcome::NotImported;
    inputs = fix_operands(graph, sample.inputs);
    verify(graph);
    if (!same(Executor(graph, Precision::Float).run(inputs), sample.outputs)) return Outcome::NotImported;
  } catch (const std::exception&) {
    return Outcome::NotImported;  // the importer's tests say why
  }
  const auto before = types(graph);
  const auto names = names_of(graph.outputs());
  pass(graph);
  verify(graph);
  if (names != names_of(graph.outputs())) return Outcome::Wrong;
  if (!same(Executor(graph, Precision::Float).run(inputs), sample.outputs)) return Outcome::Wrong;
  return types(graph) == before ? Outcome::Unchanged : Outcome::Changed;
}

template <typename Pass>
void run_all(Pass&& pass) {
  const fs::path data = fs::path(ESPQ_ONNX_TEST_DATA) / "node";
  if (!fs::exists(data)) GTEST_SKIP() << "skipped: no ONNX test data at " << data;
  std::map<Outcome, int> counts;
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(data)) folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  for (const fs::path& folder : folders) {
    SCOPED_TRACE(folder.filename().string());
    try {
      const Outcome outcome = run_case(folder, pass);
      ++counts[outcome];
      EXPECT_NE(outcome, Outcome::Wrong);
    } catch (const std::exception& error) {
      ADD_FAILURE() << error.what();
    }
  }
  std::cout << fmt::format("node models: {} rewritten, {} left as they were, {} not imported\n",
                           counts[Outcome::Changed], counts[Outcome::Unchanged], counts[Outcome::NotImported]);
  EXPECT_GT(counts[Outcome::Changed], 0);
}

TEST(NodeModels, SimplifyAndDecompose) {
  run_all([](Graph& graph) {
    simplify(graph);
    decompose_conv_transpose(graph);
  });
}

TEST(NodeModels, FormatLikeIncumbent) {
  run_all([](Graph& graph) { format_like_incumbent(graph); });
}

}  // namespace
}  // namespace espq
