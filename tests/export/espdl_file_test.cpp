#include <gtest/gtest.h>

#include "core/support/file.h"
#include "export/espdl/container.h"
#include "export/espdl/reader.h"
#include "export/espdl/writer.h"
#include "tests/reference_data.h"

namespace espq {
namespace {

std::vector<std::filesystem::path> reference_files() {
  std::vector<std::filesystem::path> files;
  for (const char* folder : {"board_cases", "peer_cases"})
    for (const auto& entry : std::filesystem::recursive_directory_iterator(reference_data() / folder))
      if (entry.path().extension() == ".espdl") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

TEST(EspdlFile, EveryReferenceFileIsRewrittenByteForByte) {
  ESPQ_REQUIRE_REFERENCE_DATA("board_cases");
  ESPQ_REQUIRE_REFERENCE_DATA("peer_cases");
  const auto files = reference_files();
  EXPECT_GE(files.size(), 480u);
  for (const auto& file : files) {
    const std::string bytes = read_file(file);
    EXPECT_TRUE(write_espdl(read_espdl_file(file)) == bytes) << file;
  }
}

}  // namespace
}  // namespace espq
