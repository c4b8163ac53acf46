// ONNX's own operator tests: every case whose operators espq has is imported and run in Float precision.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <iostream>
#include <set>

#include "core/exec/executor.h"
#include "core/support/error.h"
#include "core/support/file.h"
#include "export/onnx/onnx_export.h"
#include "onnx_file/model.h"
#include "onnx_file/tensor.h"
#include "onnx_frontend/onnx_frontend.h"
#include "onnx_frontend/rules.h"
#include "tests/onnx_frontend/onnx_checker.h"

namespace espq {
namespace {

namespace fs = std::filesystem;

/// Cases of our operators that are not run, with the reason. A name ending in '*' stands for all that begin so.
struct Skip {
  std::string_view name, reason;
};
constexpr std::string_view kEmpty = "a tensor without elements: no network for a chip has one";
const Skip kSkips[] = {
    {"test_training_dropout*", "training mode: espq quantizes trained networks"},
    {"test_dropout_default_mask*", "the mask of Dropout serves training alone"},
    {"test_batchnorm_*training_mode", "training mode: espq quantizes trained networks"},
    {"test_reduce_*_empty_set*", kEmpty},
    {"test_cast*BFLOAT16*", "bfloat16 becomes float32, which keeps more digits than the case expects"},
    {"test_not_*d", "a file of opset 1: espq reads 7 to 24"},
    {"test_arg*_select_last_index", "of equal elements espq takes the first"},
    {"test_rnn_seq_length*", "sequences of several lengths in one batch"},
    {"test_l2normalization_axis_0", "asks 0/0 = NaN of a zero vector, espq gives 0"},
};

bool matches(std::string_view pattern, std::string_view name) {
  const size_t star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == name;
  const auto head = pattern.substr(0, star), tail = pattern.substr(star + 1);
  if (!name.starts_with(head)) return false;
  if (tail.empty()) return true;
  name.remove_prefix(head.size());
  for (size_t i = 0; i <= name.size(); ++i)
    if (matches(tail, name.substr(i))) return true;
  return false;
}

constexpr std::string_view kMissing = "operator ";

/// Cases whose graph is not written back: up to opset 21 the shape inference of ONNX's checker counts a window that
/// holds nothing but padding (opset 22 mended it).
constexpr std::string_view kMisjudged[] = {
    "test_averagepool_2d_ceil_last_window_starts_on_pad",
    "test_maxpool_2d_ceil_output_size_reduce_by_one",
};

struct Outcome {
  enum { Passed, Failed, Skipped } kind = Passed;
  std::string reason = {};
};

/// Why a model is outside of what espq is for; empty when it is not.
std::string outside(const onnx_file::Model& model) {
  for (const auto& node : model.nodes) {
    if (node.type == "Constant" && node.domain.empty()) continue;
    if (!node.domain.empty()) return std::string(kMissing) + node.domain + "::" + node.type;
    if (onnx_frontend::refusal(node.type) || !operators().find(onnx_frontend::vocabulary_type(node.type)))
      return std::string(kMissing) + node.type;
  }
  for (const auto* list : {&model.inputs, &model.outputs})
    for (const auto& value : *list) {
      if (!value.is_tensor) return "a sequence or optional as input or output";
      if (!onnx_file::scalar_type(value.type)) return "element type " + element_name(value.type);
    }
  return {};
}

/// The tolerance that ONNX's own runner uses (rtol 1e-3, atol 1e-7); integers and bools have to be equal.
std::string difference(const at::Tensor& actual, const at::Tensor& expected) {
  if (!actual.defined()) return "no value";
  if (actual.sizes() != expected.sizes())
    return fmt::format("shape [{}] instead of [{}]", fmt::join(actual.sizes(), ","), fmt::join(expected.sizes(), ","));
  if (actual.scalar_type() != expected.scalar_type())
    return fmt::format("dtype {} instead of {}", c10::toString(actual.scalar_type()),
                       c10::toString(expected.scalar_type()));
  const at::Tensor a = actual.to(at::kDouble), e = expected.to(at::kDouble);
  const bool exact = !expected.is_floating_point();
  if (at::allclose(a, e, exact ? 0 : 1e-3, exact ? 0 : 1e-7, true)) return {};
  return fmt::format("largest difference {}", (a - e).abs().max().item<double>());
}

std::vector<at::Tensor> read_tensors(const fs::path& folder, const std::string& prefix, size_t count) {
  std::vector<at::Tensor> result;
  for (size_t i = 0; i < count; ++i)
    result.push_back(onnx_file::to_tensor(onnx_file::read_tensor(folder / fmt::format("{}_{}.pb", prefix, i))));
  return result;
}

std::string wrong_output(const Graph& graph, const NamedTensors& feed, const onnx_file::Model& model,
                         const std::vector<at::Tensor>& expected) {
  std::vector<std::string> names;
  for (const auto& output : model.outputs) names.push_back(output.name);
  auto actual = Executor(graph, Precision::Float).run(feed, names);
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string text = difference(actual[names[i]], expected[i]);
    if (!text.empty()) return fmt::format("output '{}': {}", names[i], text);
  }
  return {};
}

/// The graph written as ONNX again: the checker accepts it, and it computes the same.
std::string wrong_rewrite(Graph& graph, const OnnxImportOptions& options, const NamedTensors& feed,
                          const onnx_file::Model& model, const std::vector<at::Tensor>& expected) {
  const fs::path file = fs::temp_directory_path() / fmt::format("espq_node_test_{}.onnx", ::getpid());
  Tensors inputs;
  for (const Variable* input : graph.inputs()) inputs.push_back(feed.at(input->name()));
  infer_shapes(graph, inputs);
  export_onnx(graph, file);
  const std::string bytes = read_file(file);
  fs::remove(file);
  std::string text = test::onnx_complaint(bytes);
  if (text.empty()) text = wrong_output(import_onnx_bytes(bytes, "rewritten", ".", options), feed, model, expected);
  return text.empty() ? text : "written again: " + text;
}

Outcome run_data_set(const fs::path& model_file, const onnx_file::Model& model, const fs::path& folder) {
  const auto inputs = read_tensors(folder, "input", model.inputs.size());
  const auto expected = read_tensors(folder, "output", model.outputs.size());
  OnnxImportOptions options;
  NamedTensors feed;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].numel() == 0 && inputs[i].is_floating_point()) return {Outcome::Skipped, std::string(kEmpty)};
    options.input_shapes[model.inputs[i].name] = inputs[i].sizes().vec();
    feed[model.inputs[i].name] = inputs[i];
  }
  Graph graph = import_onnx(model_file, options);
  verify(graph);
  std::string text = wrong_output(graph, feed, model, expected);
  const bool misjudged = std::find(std::begin(kMisjudged), std::end(kMisjudged),
                                   model_file.parent_path().filename().string()) != std::end(kMisjudged);
  if (text.empty() && !misjudged) text = wrong_rewrite(graph, options, feed, model, expected);
  return text.empty() ? Outcome{} : Outcome{Outcome::Failed, text};
}

Outcome run_case(const fs::path& folder) {
  const std::string name = folder.filename();
  try {
    const auto model = onnx_file::read_model(folder / "model.onnx");
    const std::string reason = outside(model);
    if (!reason.empty()) return {Outcome::Skipped, reason};
    for (const Skip& skip : kSkips)
      if (matches(skip.name, name)) return {Outcome::Skipped, std::string(skip.reason)};
    int sets = 0;
    for (; fs::exists(folder / fmt::format("test_data_set_{}", sets)); ++sets) {
      auto outcome = run_data_set(folder / "model.onnx", model, folder / fmt::format("test_data_set_{}", sets));
      if (outcome.kind != Outcome::Passed) return outcome;
    }
    if (sets == 0) return {Outcome::Failed, "it has no data"};
    return {};
  } catch (const std::exception& error) {
    const std::string what = error.what();
    // The reader refuses element types that no chip has before the operators can be seen.
    const auto type = what.find("has element type ");
    if (type != std::string::npos && what.find("which espq does not read") != std::string::npos)
      return {Outcome::Skipped, what.substr(type + 4, what.find(',', type) - type - 4)};
    return {Outcome::Failed, what};
  }
}

TEST(OnnxNodeTests, AllCasesOfOurOperators) {
  const fs::path data = fs::path(ESPQ_ONNX_TEST_DATA) / "node";
  if (!fs::exists(data)) GTEST_SKIP() << "skipped: no ONNX test data at " << data << " (make deps brings it)";
  std::set<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(data)) folders.insert(entry.path());
  std::map<std::string, int> skipped;
  int passed = 0, failed = 0, skips = 0;
  for (const auto& folder : folders) {
    const Outcome outcome = run_case(folder);
    passed += outcome.kind == Outcome::Passed;
    if (outcome.kind == Outcome::Skipped) ++skipped[outcome.reason], ++skips;
    if (outcome.kind != Outcome::Failed) continue;
    ++failed;
    ADD_FAILURE() << folder.filename().string() << ": " << outcome.reason;
  }
  std::string missing;
  for (const auto& [reason, count] : skipped) {
    if (reason.starts_with(kMissing))
      missing += fmt::format(" {} ({})", reason.substr(kMissing.size()), count);
    else
      std::cout << fmt::format("  skipped {:4}: {}\n", count, reason);
  }
  std::cout << fmt::format("  skipped for operators that espq does not have:{}\n", missing);
  std::cout << fmt::format("ONNX node tests: {} run, {} passed, {} failed; {} skipped of {}\n", passed + failed, passed,
                           failed, skips, folders.size());
  EXPECT_GE(passed, 950) << "fewer cases ran than espq's operators have: is the data complete?";
}

}  // namespace
}  // namespace espq
