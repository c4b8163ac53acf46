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

}  // namespace
}  // namespace espq
