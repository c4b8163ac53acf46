// No form that the chip library was seen to compute as ONNX means it is refused: the files whose outputs it confirmed.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "core/ops/operator.h"
#include "core/support/file.h"
#include "export/espdl/convert.h"
#include "export/espdl/reader.h"
#include "tests/reference_data.h"

namespace espq {
namespace {

namespace fs = std::filesystem;

/// Cases that show a reading of the library that is not ONNX's, with the part of the reason that says so.
const std::map<std::string, std::string> kOtherReadings{{"avgpad_exc", "count_include_pad"},
                                                        {"nchw_prelu", "slopes"},
                                                        {"reduceall", "without axes"},
                                                        {"resize_s16", "int16 kernel"},
                                                        {"overflow_smax", "logits"},
                                                        {"rand_s9049", "more than one channel"},
                                                        {"rand_s9016", "count_include_pad"},
                                                        {"ops_Resize_nearest", "other coordinates"},
                                                        {"Resize_nearest_pytorch_half_pixel", "other coordinates"}};

bool is_known(const std::string& name, const std::string& why) {
  for (const auto& [part, reason] : kOtherReadings)
    if (name.find(part) != std::string::npos && why.find(reason) != std::string::npos) return true;
  return false;
}

/// Refused operations of a file that nothing explains.
std::string surprises(const fs::path& file, const Target& target, const std::string& name) {
  std::string result;
  const Graph graph = from_model(read_espdl_file(file), target);
  for (const Operation* operation : graph.topological_order()) {
    const auto refusal = refuses(*operation, {target}, operation->chip().kernels.value_or(Width::Float));
    if (refusal && !is_known(name, refusal->why))
      result += fmt::format("{}: {} '{}': {}\n", name, operation->type(), operation->name(), refusal->why);
  }
  return result;
}

TEST(ConfirmedForms, OfTheReferenceCasesAreNotRefused) {
  const ReferenceCases cases = board_cases();
  const auto manifest = nlohmann::json::parse(read_file(cases.folder / "manifest.json"));
  int count = 0;
  for (const auto& entry : manifest) {
    const std::string name = entry["dir"];
    ++count;
    EXPECT_EQ(surprises(cases.folder / name / "model.espdl", find_target(entry["target"].get<std::string>()), name),
              "");
  }
  EXPECT_GE(count, 150);
}

TEST(ConfirmedForms, OfTheCollectionAreNotRefused) {
  const fs::path folder = board_cases().folder.parent_path() / "chip_confirmed";
  if (!fs::exists(folder)) GTEST_SKIP() << "the collection is not at hand";
  int count = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".espdl") continue;
    const std::string name = entry.path().stem().string();
    const size_t bits = name.rfind('_'), target = name.rfind('_', bits - 1);
    ++count;
    EXPECT_EQ(surprises(entry.path(), find_target(name.substr(target + 1, bits - target - 1)), name), "");
  }
  EXPECT_GE(count, 100);
}

}  // namespace
}  // namespace espq
