#include "export/info/info.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/support/error.h"
#include "core/support/file.h"
#include "export/espdl/reader.h"
#include "export/info/numpy_repr.h"
#include "tests/reference_data.h"

namespace espq {
namespace {

TEST(Info, EqualsTheIncumbentsTextOfEveryPeerFile) {
  int compared = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(peer_cases().folder)) {
    if (entry.path().filename() != "peer.info") continue;
    const auto model = read_espdl_file(entry.path().parent_path() / "peer.espdl");
    const std::string expected = read_file(entry.path()), written = info_text(model);
    EXPECT_TRUE(written == expected)
        << entry.path() << " differs at byte "
        << std::mismatch(written.begin(), written.end(), expected.begin(), expected.end()).first - written.begin();
    ++compared;
  }
  EXPECT_GE(compared, peer_cases().at_least(88, 3));
}

TEST(Info, PrintsArraysAsNumpyDoes) {
  const auto cases = nlohmann::json::parse(read_file(ESPQ_TEST_DATA "/numpy_repr.json"));
  ASSERT_GT(cases.size(), 100u);
  for (const auto& item : cases) {
    const std::string hex = item["bytes"];
    std::string bytes;
    for (size_t i = 0; i < hex.size(); i += 2) bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    EXPECT_EQ(numpy_repr(static_cast<ElementType>(item["type"].get<int>()), bytes), item["repr"].get<std::string>());
  }
}

TEST(Info, PrintsStringsAsPythonDoes) {
  EXPECT_EQ(python_repr("Linear"), "'Linear'");
  EXPECT_EQ(python_repr("it's"), "\"it's\"");
  EXPECT_EQ(python_repr("it's \"so\""), "'it\\'s \"so\"'");
  EXPECT_EQ(python_repr("a\\b\n\x01"), "'a\\\\b\\n\\x01'");
}

TEST(Info, PrintsWhatHasNoTypeOrShape) {
  EspdlModel model;
  model.graph_name = "g";
  model.metadata = {{"target", "esp32p4"}};
  model.value_infos = {
      {.name = "", .type = ElementType::Float, .exponents = {0}},
      {.name = "s", .type = ElementType::Int8, .shape = std::vector<EspdlDimension>{}, .exponents = {-3}}};
  model.nodes = {{.name = "n", .op_type = "Relu", .inputs = {"s", ""}, .outputs = {"s"}}};
  EXPECT_EQ(info_text(model),
            "model properties:\nmetadata_props:\ntarget: esp32p4\n\n\ngraph g (\n) {\n  %s = Relu(%s, %)\n  return \n}"
            "\n\n\ninitializers value:\n\n\nvalues info:\n%[FLOAT], exponents: [0]\n%s[INT8, scalar], exponents: [-3]"
            "\n\n\ntest inputs value:\n\n\ntest outputs value:");
  model.initializers = {{.name = "h", .dims = {8}, .type = ElementType::Float16, .raw = std::string(16, '\0')}};
  EXPECT_THROW(info_text(model), UserError);
}

}  // namespace
}  // namespace espq
