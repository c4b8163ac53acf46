#include <gmock/gmock.h>

#include "core/support/error.h"
#include "core/support/file.h"
#include "passes/pipeline.h"
#include "tests/peer_run.h"

namespace espq {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

const std::filesystem::path kRecipes = std::filesystem::path(ESPQ_TEST_DATA).parent_path().parent_path() / "recipes";

TEST(Recipe, SurvivesTheRoundTrip) {
  QuantizeOptions options;
  options.target = "esp32s3";
  options.widths.per_operation["head"] = OperationWidth::Int16;
  options.observers.activations_of["conv1"] = Observer::KlDivergence;
  options.alignment.elementwise = AlignMethod::Large;
  options.tables.types = {"Tanh"};
  options.observer_rules.percentile = 0.99;
  QuantizeOptions copy;
  from_json(to_json(options), copy, "text");
  EXPECT_EQ(to_json(copy), to_json(options));
  EXPECT_NE(to_json(copy), to_json(QuantizeOptions()));
}

TEST(Recipe, DefaultFileHoldsTheDefaults) {
  const QuantizeOptions options = quantize_part(kRecipes / "default.json");
  EXPECT_EQ(to_json(options), to_json(QuantizeOptions()));
  const auto file = nlohmann::json::parse(read_file(kRecipes / "default.json"));
  const auto all = nlohmann::json::parse(to_json(options));
  for (const auto& [key, value] : all.items())
    EXPECT_TRUE(file.contains(key) || key == "target" || key == "widths") << key;
}

TEST(Recipe, ParityFileNamesEveryDeviation) {
  // Whatever the parity recipe leaves out is equal in both.
  const QuantizeOptions parity = quantize_part(kRecipes / "esp-ppq-1.3.12.json");
  EXPECT_EQ(parity.observers.activations_int8, Observer::KlDivergence);
  EXPECT_EQ(parity.observer_rules.range_rule, RangeRule::Symmetric);
  EXPECT_TRUE(parity.alignment.large_doubles);
  EXPECT_FALSE(parity.derive.fit_bias);
}

TEST(Recipe, MistakesAreNamed) {
  const auto reading = [](const char* text) {
    return [text] {
      QuantizeOptions options;
      from_json(text, options, "my.json");
    };
  };
  EXPECT_THAT(reading(R"({"alignement": {}})"), ThrowsMessage<UserError>(HasSubstr("did you mean 'alignment'")));
  EXPECT_THAT(
      reading(R"({"alignment": {"concatenation": "output"}})"),
      ThrowsMessage<UserError>(HasSubstr("my.json.alignment: unknown key 'concatenation'; did you mean 'concat'")));
  EXPECT_THAT(reading(R"({"alignment": {"concat": "outputs"}})"),
              ThrowsMessage<UserError>(HasSubstr("'outputs' is not one of none, output, input, large")));
  EXPECT_THAT(reading(R"({"widths": {"bits": "8"}})"), ThrowsMessage<UserError>(HasSubstr("expected an integer")));
  EXPECT_THAT(reading(R"({"ties": 3})"), ThrowsMessage<UserError>(HasSubstr("expected a JSON object")));
  EXPECT_THAT(reading("{,}"), ThrowsMessage<UserError>(HasSubstr("my.json: not valid JSON")));
  EXPECT_THAT(reading("[1]"), ThrowsMessage<UserError>(HasSubstr("expected a JSON object")));
}

}  // namespace
}  // namespace espq
