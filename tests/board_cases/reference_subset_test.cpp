// The reference cases that the repository has itself: whole, and the collection's where that is at hand.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "core/support/file.h"
#include "tests/reference_data.h"

namespace espq {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Files = std::set<std::string>;

Files board_files(const Json& manifest) {
  Files files;
  for (const Json& entry : manifest) {
    const std::string folder = entry["dir"].get<std::string>() + "/";
    files.insert(folder + "model.espdl");
    for (const char* side : {"inputs", "outputs"})
      for (const Json& tensor : entry[side]) files.insert(folder + tensor["file"].get<std::string>());
  }
  return files;
}

Files peer_files(const Json& manifest) {
  Files files;
  for (const Json& entry : manifest["cases"]) {
    const std::string folder = entry["name"].get<std::string>() + "/";
    files.insert(folder + "model.onnx");
    for (const Json& run : entry["runs"])
      if (!run.contains("error")) files.insert(folder + run["folder"].get<std::string>() + "/peer.espdl");
  }
  return files;
}

class ReferenceSubset : public testing::TestWithParam<std::string> {};

TEST_P(ReferenceSubset, HasTheFilesOfItsManifestUnchanged) {
  const fs::path folder = fs::path(ESPQ_TEST_DATA) / GetParam();
  const Json manifest = Json::parse(read_file(folder / "manifest.json"));
  const Files named = GetParam() == "board" ? board_files(manifest) : peer_files(manifest);
  EXPECT_GE(named.size(), 100u);
  for (const std::string& file : named) EXPECT_TRUE(fs::exists(folder / file)) << file;
  const ReferenceCases collection = reference_cases(GetParam());
  if (!collection.whole) return;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const fs::path file = fs::relative(entry.path(), folder);
    if (entry.is_directory() || file == "manifest.json") continue;
    EXPECT_TRUE(read_file(entry.path()) == read_file(collection.folder / file)) << file;
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, ReferenceSubset, testing::Values("board", "peer"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace espq
