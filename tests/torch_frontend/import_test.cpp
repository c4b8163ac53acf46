#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include "core/support/error.h"
#include "tests/torch_frontend/cases.h"

namespace espq {
namespace {

using ::testing::HasSubstr;

/// Python's own outputs: whole networks, summed in another order.
constexpr double kTolerance = 1e-4;

/// Names of the inputs of the case's forward(), found by asking for them.
std::vector<std::string> input_names(const std::filesystem::path& file) {
  try {
    import_torch(file, {.input_shapes = {{"?", {1}}}});
  } catch (const UserError& error) {
    const std::string text = error.what(), start = "(its inputs: ";
    const size_t begin = text.find(start) + start.size();
    std::vector<std::string> names{""};
    for (const char character : text.substr(begin, text.rfind(')') - begin)) {
      if (character == ',')
        names.emplace_back();
      else if (character != ' ')
        names.back() += character;
    }
    return names;
  }
  return {};
}

/// All that is wrong with one file; empty when it agrees.
std::string disagreement(const TorchCase& one, const std::filesystem::path& file) {
  try {
    TorchImportOptions options;
    const auto names = input_names(file);
    if (names.size() != one.inputs) return fmt::format("has {} inputs instead of {}", names.size(), one.inputs);
    for (size_t i = 0; i < one.inputs; ++i) options.example[names[i]] = one.input(i);
    const CheckedImport imported = import_torch_checked(file, options);
    std::string text;
    for (const auto& entry : imported.agreement.operators)
      if (!entry.agrees())
        text +=
            fmt::format("{} ({}): {:.2e} > {:.0e}; ", entry.target, entry.source, entry.largest_error, entry.tolerance);
    for (const auto& entry : imported.agreement.outputs)
      if (!entry.agrees()) text += fmt::format("output {}: {:.2e}; ", entry.name, entry.largest_error);
    const Tensors outputs = Executor(imported.graph, Precision::Float).run(one.input_list());
    if (outputs.size() != one.outputs)
      return text + fmt::format("{} outputs instead of {}", outputs.size(), one.outputs);
    for (size_t i = 0; i < outputs.size(); ++i) {
      const at::Tensor wanted = one.output(i).to(at::kDouble), found = outputs[i].to(at::kDouble);
      if (found.sizes() != wanted.sizes()) return text + fmt::format("output {} has another shape", i);
      if (wanted.numel() == 0) continue;
      const double scale = std::max(wanted.abs().max().item<double>(), 1e-6),
                   error = (found - wanted).abs().max().item<double>() / scale;
      if (!(error <= kTolerance)) text += fmt::format("recorded output {}: {:.2e}; ", i, error);
    }
    return text;
  } catch (const std::exception& error) {
    return error.what();
  }
}

void check_all(const std::string& ending) {
  size_t count = 0;
  for (const TorchCase& one : torch_cases()) {
    if (ending == ".pt2" && !one.pt2) continue;
    ++count;
    EXPECT_EQ(disagreement(one, one.file(ending)), "") << one.name << ending;
  }
  std::cout << count << " networks (" << ending << ")\n";
  EXPECT_GE(count, 150u);
}

TEST(TorchImport, EveryTorchScriptCaseComputesWhatPythonComputed) {
  ESPQ_REQUIRE_TORCH_CASES();
  check_all(".pt");
}

TEST(TorchImport, EveryExportedProgramComputesWhatPythonComputed) {
  ESPQ_REQUIRE_TORCH_CASES();
  check_all(".pt2");
}

template <typename Objects>
std::vector<std::string> names_of(const Objects& objects) {
  std::vector<std::string> names;
  names.reserve(objects.size());
  for (const auto* object : objects) names.push_back(object->name());
  return names;
}

TEST(TorchImport, NamesReadLikeTheModuleTree) {
  ESPQ_REQUIRE_TORCH_CASES();
  for (const std::string name : {"residual_network.pt", "residual_network_script.pt", "residual_network.pt2"}) {
    const Graph graph = import_torch(TorchCase::folder() / name, {.input_shapes = {{"x", {1, 3, 16, 16}}}});
    EXPECT_THAT(names_of(graph.operations()),
                ::testing::ElementsAre("/stem/Conv", "/blocks/0/conv/Conv", "/blocks/0/bn/BatchNormalization",
                                       "/blocks/0/act/Relu", "/Add", "/blocks/1/conv/Conv",
                                       "/blocks/1/bn/BatchNormalization", "/blocks/1/act/Relu", "/Add_1", "/ReduceMean",
                                       "/shared/Gemm", "/shared/Gemm_1", "/Add_2", "/head/Gemm", "/Softmax"))
        << name;
    EXPECT_EQ(graph.find_operation("/blocks/0/conv/Conv")->input(1)->name(), "blocks.0.conv.weight") << name;
    // A weight that is used twice is one parameter.
    EXPECT_EQ(graph.find_operation("/shared/Gemm")->input(1), graph.find_operation("/shared/Gemm_1")->input(1)) << name;
    EXPECT_EQ(graph.outputs()[0]->name(), "scores") << name;
    EXPECT_EQ(graph.outputs()[1]->name(), "features") << name;
  }
}

TEST(TorchImport, ASharedModuleIsNamedWhereItIsCalled) {
  ESPQ_REQUIRE_TORCH_CASES();
  for (const std::string ending : {".pt", ".pt2"}) {
    const Graph graph =
        import_torch(TorchCase::folder() / ("shared_activation" + ending), {.input_shapes = {{"x", {2, 3}}}});
    EXPECT_THAT(names_of(graph.operations()),
                ::testing::ElementsAre("/first/0/Gemm", "/first/1/Swish", "/second/0/Gemm", "/second/1/Swish"))
        << ending;
  }
}

TEST(TorchImport, ReadsTheLayoutsOfAllVersions) {
  ESPQ_REQUIRE_TORCH_CASES();
  const auto arrays = read_npz(TorchCase::folder() / "small.npz");
  for (const std::string name : {"small.pt2", "small_flat.pt2", "small_param.pt2", "small_pickle.pt2"}) {
    const Graph graph = import_torch(TorchCase::folder() / name);
    EXPECT_EQ(*graph.inputs()[0]->shape(), (Shape{2, 3, 6, 6})) << name;
    const Tensors outputs = Executor(graph, Precision::Float).run(Tensors{arrays.at("in_0")});
    EXPECT_TRUE(at::allclose(outputs[0], arrays.at("out_0"), 1e-5, 1e-5)) << name;
  }
}

TEST(TorchImport, OutputsHaveTheKeysOfDictionaries) {
  ESPQ_REQUIRE_TORCH_CASES();
  const auto outputs_of = [](const std::string& name) {
    const Graph graph = import_torch(TorchCase::folder() / name);
    return names_of(graph.outputs());
  };
  EXPECT_THAT(outputs_of("ordered_dictionary.pt2"), ::testing::ElementsAre("out", "aux"));
  EXPECT_THAT(outputs_of("default_dictionary.pt2"), ::testing::ElementsAre("boxes_0", "boxes_1"));
}

/// Zeros tell nothing. What LibTorch computes in one step rounds otherwise than what the graph computes in several:
/// only the offset of a normalization of zeros is the same bit by bit.
TEST(TorchImport, ChecksOnInputsThatTellSomething) {
  ESPQ_REQUIRE_TORCH_CASES();
  const auto file = TorchCase::folder() / "recorded_zeros.pt2";
  const CheckedImport zeros = import_torch_checked(file, {.example = {{"input", at::zeros({2, 64})}}});
  EXPECT_EQ(zeros.agreement.outputs.at(0).largest_error, 0);
  const CheckedImport own = import_torch_checked(file);
  EXPECT_TRUE(own.agreement.agrees());
  EXPECT_GT(own.agreement.outputs.at(0).largest_error, 0);
}

TEST(TorchImport, BindsADynamicDimension) {
  ESPQ_REQUIRE_TORCH_CASES();
  const Graph graph = import_torch(TorchCase::folder() / "small.pt2", {.input_shapes = {{"x", {5, 3, 6, 6}}}});
  EXPECT_EQ(*graph.outputs()[0]->shape(), (Shape{5, 2}));
}

TEST(TorchImport, ComputesSizesOfDynamicDimensions) {
  ESPQ_REQUIRE_TORCH_CASES();
  const auto arrays = read_npz(TorchCase::folder() / "sizes.npz");
  const Graph graph = import_torch(TorchCase::folder() / "sizes.pt2", {.example = {{"x", arrays.at("in_0")}}});
  const Tensors outputs = Executor(graph, Precision::Float).run(Tensors{arrays.at("in_0")});
  EXPECT_TRUE(at::allclose(outputs[0], arrays.at("out_0"), 1e-6, 1e-6));
}

/// The check must be able to fail: a graph that differs is found, operator and output.
TEST(TorchImport, CheckListsOperatorsWithTheirOperations) {
  ESPQ_REQUIRE_TORCH_CASES();
  const CheckedImport checked =
      import_torch_checked(TorchCase::folder() / "small.pt", {.input_shapes = {{"x", {2, 3, 6, 6}}}});
  ASSERT_EQ(checked.agreement.operators.size(), 4u);
  EXPECT_EQ(checked.agreement.operators[0].module_path, "conv");
  EXPECT_EQ(checked.agreement.operators[0].operations, std::vector<std::string>{"/conv/Conv"});
  EXPECT_EQ(checked.agreement.outputs.size(), 1u);
  TorchAgreement wrong = checked.agreement;
  wrong.outputs[0].largest_error = 1;
  EXPECT_FALSE(wrong.agrees());
}

}  // namespace
}  // namespace espq
