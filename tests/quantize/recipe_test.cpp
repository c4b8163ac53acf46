#include "passes/recipe/recipe.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "core/support/error.h"
#include "core/support/file.h"
#include "tests/temporary_folder.h"

namespace espq {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

Recipe from_text(const std::string& text) {
  const test::TemporaryFolder folder;
  write_file(folder.path() / "my.json", text);
  return read_recipe(folder.path() / "my.json");
}

nlohmann::json json_of(const Recipe& recipe) { return nlohmann::json::parse(recipe_text(recipe)); }

TEST(Recipe, SurvivesTheRoundTrip) {
  Recipe recipe;
  recipe.target = "esp32s3";
  recipe.simplify.reset();
  recipe.layers["head"].width = Width::Int16;
  recipe.layers["conv*"].observer = Observer::KlDivergence;
  recipe.alignment.elementwise = AlignMethod::Large;
  recipe.tables->types = {"Tanh"};
  recipe.lowering.int16_table_step.reset();
  recipe.calibration.percentile = 0.99;
  recipe.quirks.shifts_left = true;
  EXPECT_EQ(recipe_text(from_text(recipe_text(recipe))), recipe_text(recipe));
  EXPECT_NE(recipe_text(recipe), recipe_text(Recipe()));
}

TEST(Recipe, DefaultFileHoldsTheDefaults) {
  // Every key, so that the file shows what there is.
  const auto file = std::filesystem::path(ESPQ_TEST_DATA) / "../../recipes/default.json";
  EXPECT_EQ(nlohmann::json::parse(read_file(file)), json_of(Recipe()));
  EXPECT_EQ(recipe_text(find_recipe("default")), recipe_text(Recipe()));
}

TEST(Recipe, ParityFileHasEveryQuirkAndNobodyElseHasOne) {
  const auto with = json_of(find_recipe("esp-ppq-1.3.12")).at("quirks"), without = json_of(Recipe()).at("quirks");
  EXPECT_EQ(with.size(), without.size());
  for (const auto& [name, on] : with.items()) EXPECT_TRUE(on.get<bool>()) << name;
  for (const auto& [name, on] : without.items()) EXPECT_FALSE(on.get<bool>()) << name;
}

TEST(Recipe, PassesAreLeftOutByNullOrFalse) {
  for (const char* off : {"null", "false"}) {
    const Recipe recipe = from_text(fmt::format(R"({{"simplify": {0}, "decompose_conv_transpose": {0}, "tables": {0},
        "accumulators": {0}, "lowering": {{"int16_table_step": {0}}}}})",
                                                off));
    EXPECT_FALSE(recipe.simplify || recipe.decompose_conv_transpose || recipe.tables || recipe.accumulators ||
                 recipe.lowering.int16_table_step);
  }
  const Recipe absent = from_text("{}"), asked = from_text(R"({"tables": true, "decompose_conv_transpose": {}})");
  EXPECT_TRUE(absent.simplify && absent.decompose_conv_transpose && absent.tables && absent.accumulators);
  EXPECT_TRUE(asked.tables && asked.decompose_conv_transpose);
  EXPECT_EQ(from_text(R"({"tables": {"step": 16}})").tables->step, 16);
}

TEST(Recipe, IsFoundByNameOrFile) {
  EXPECT_EQ(find_recipe("esp-ppq-1.3.12").calibration.observer, Observer::KlDivergence);
  const test::TemporaryFolder folder;
  write_file(folder.path() / "mine", R"({"target": "esp32s3"})");
  EXPECT_EQ(find_recipe((folder.path() / "mine").string()).target, "esp32s3");
  EXPECT_THAT(
      [] { find_recipe("esp-ppq"); },
      ThrowsMessage<UserError>(HasSubstr("'esp-ppq': there is neither a file nor a recipe of that name; espq has "
                                         "accurate, default, esp-ppq-1.3.12, fast")));
}

TEST(Recipe, ReadsTheEarlierSpellingOfWidths) {
  const Recipe recipe =
      from_text(R"({"widths": {"bits": 16, "per_operation": {"/a.b": "int8", "c": "float", "d": "int8"}},
                                      "layers": {"c": {"observer": "kl"}, "d": {"width": "int16"}}})");
  EXPECT_EQ(recipe.widths.bits, 16);
  EXPECT_EQ(recipe.layers, (Layers{{"/a.b", {.width = Width::Int8}},
                                   {"c", {.width = Width::Float, .observer = Observer::KlDivergence}},
                                   {"d", {.width = Width::Int16}}}));
  EXPECT_THAT([] { from_text(R"({"widths": {"per_operation": {"a": "int4"}}})"); },
              ThrowsMessage<UserError>(HasSubstr("layers.a.width: 'int4' is not one of float, int8")));
}

TEST(Recipe, MistakesAreNamed) {
  const auto reading = [](const char* text) { return [text] { from_text(text); }; };
  EXPECT_THAT(reading(R"({"alignement": {}})"), ThrowsMessage<UserError>(HasSubstr("did you mean 'alignment'")));
  EXPECT_THAT(
      reading(R"({"alignment": {"concatenation": "output"}})"),
      ThrowsMessage<UserError>(HasSubstr("my.json.alignment: unknown key 'concatenation'; did you mean 'concat'")));
  EXPECT_THAT(reading(R"({"alignment": {"concat": "outputs"}})"),
              ThrowsMessage<UserError>(HasSubstr("'outputs' is not one of none, output, input, large, best")));
  EXPECT_THAT(reading(R"({"widths": {"bit": 8}})"),
              ThrowsMessage<UserError>(HasSubstr("did you mean 'bits'? It has bits, check_kernels")));
  EXPECT_THAT(reading(R"({"widths": {"bits": "8"}})"), ThrowsMessage<UserError>(HasSubstr("expected an integer")));
  EXPECT_THAT(reading(R"({"quirks": 3})"), ThrowsMessage<UserError>(HasSubstr("expected a JSON object")));
  EXPECT_THAT(reading(R"({"quirks": {"shifts_left": null}})"), ThrowsMessage<UserError>(HasSubstr("true or false")));
  EXPECT_THAT(reading(R"({"tables": 32})"), ThrowsMessage<UserError>(HasSubstr("my.json.tables: expected")));
  EXPECT_THAT(reading(R"({"layers": {"head": {"width": "int4"}}})"),
              ThrowsMessage<UserError>(HasSubstr("layers.head.width: 'int4' is not one of float, int8, int16")));
  EXPECT_THAT(reading("{,}"), ThrowsMessage<UserError>(HasSubstr("my.json: not valid JSON")));
  EXPECT_THAT(reading("[1]"), ThrowsMessage<UserError>(HasSubstr("expected a JSON object")));
}

TEST(SetField, ChangesOneOption) {
  Recipe recipe;
  set_field(recipe, "calibration.observer=kl");
  set_field(recipe, "calibration.steps=12");
  set_field(recipe, "lowering.runtime_level=newer");
  set_field(recipe, "tables=null");
  set_field(recipe, "accumulators.fit", false);
  EXPECT_EQ(recipe.calibration.observer, Observer::KlDivergence);
  EXPECT_EQ(recipe.calibration.steps, 12);
  EXPECT_EQ(recipe.lowering.runtime_level, RuntimeLevel::Newer);
  EXPECT_FALSE(recipe.tables);
  EXPECT_FALSE(recipe.accumulators->fit);
  EXPECT_EQ(recipe.accumulators->batches, 2);
  set_field(recipe, "tables.step=16");  // an option of a pass asks for the pass
  EXPECT_EQ(recipe.tables->step, 16);
}

TEST(SetField, NamesLayersWithDotsAndAddsToTheOthers) {
  Recipe recipe;
  set_field(recipe, "layers./model.0/conv*.width=int16");
  set_field(recipe, "layers./model.0/conv*.observer=minmax");
  set_field(recipe, R"(layers.head.1={"width": "float"})");
  EXPECT_EQ(recipe.layers.at("/model.0/conv*"), (LayerOptions{Width::Int16, Observer::MinMax}));
  EXPECT_EQ(recipe.layers.at("head.1"), (LayerOptions{Width::Float}));
  set_field(recipe, "layers", nlohmann::json::parse(R"({"head.1": null})"));
  EXPECT_EQ(recipe.layers.size(), 1u);
}

TEST(SetField, MistakesAreNamedAndChangeNothing) {
  Recipe recipe;
  const auto setting = [&](const char* assignment) { return [&recipe, assignment] { set_field(recipe, assignment); }; };
  EXPECT_THAT(
      setting("calibration.observr=kl"),
      ThrowsMessage<UserError>(HasSubstr("recipe.calibration: unknown key 'observr'; did you mean 'observer'")));
  EXPECT_THAT(setting("calibration.observer=entropy"),
              ThrowsMessage<UserError>(HasSubstr("recipe.calibration.observer: 'entropy' is not one of minmax, "
                                                 "percentile, kl, mse")));
  EXPECT_THAT(setting("target.name=c"), ThrowsMessage<UserError>(HasSubstr("recipe.target: expected a string")));
  EXPECT_THAT(setting("tables"), ThrowsMessage<UserError>(HasSubstr("OPTION=VALUE")));
  EXPECT_THAT(setting(R"(calibration={"observer": "kl", "step": 1})"), ThrowsMessage<UserError>(HasSubstr("'step'")));
  EXPECT_EQ(recipe_text(recipe), recipe_text(Recipe()));
}

}  // namespace
}  // namespace espq
