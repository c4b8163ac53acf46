#include "passes/recipe/recipe.h"

#include <fmt/ranges.h>

#include "core/support/error.h"
#include "core/support/file.h"
#include "core/support/json_fields.h"
#include "passes/recipe/builtin.h"

namespace espq {

template <class Fields>
void describe(Fields& fields, Recipe& recipe) {
  fields("target", recipe.target);
  fields("simplify", recipe.simplify);
  fields("decompose_conv_transpose", recipe.decompose_conv_transpose);
  fields("legalize", recipe.legalize);
  fields("equalize", recipe.equalize);
  fields("center_channels", recipe.center_channels);
  fields("split_channels", recipe.split_channels);
  fields("center_logits", recipe.center_logits);
  fields("split_layers", recipe.split_layers);
  fields("mixed_precision", recipe.mixed_precision);
  fields("widths", recipe.widths);
  fields("load_quantization", recipe.load_quantization);
  fields("calibration", recipe.calibration);
  fields("alignment", recipe.alignment);
  fields("correct_biases", recipe.correct_biases);
  fields("search_exponents", recipe.search_exponents);
  fields("train_thresholds", recipe.train_thresholds);
  fields("learn_rounding", recipe.learn_rounding);
  fields("virtual_zero_point", recipe.virtual_zero_point);
  fields("accumulators", recipe.accumulators);
  fields("tables", recipe.tables);
  fields("lowering", recipe.lowering);
  fields("layers", recipe.layers);
  fields("quirks", recipe.quirks);
}

namespace {

/// The earlier spelling of `layers.NAME.width`: `widths.per_operation.NAME`. What `layers` says counts.
nlohmann::json with_layers(nlohmann::json json) {
  if (!json.is_object() || !json.contains("widths") || !json["widths"].is_object()) return json;
  const auto earlier = json["widths"].find("per_operation");
  if (earlier == json["widths"].end() || !earlier->is_object()) return json;
  nlohmann::json layers = nlohmann::json::object();
  for (const auto& [name, width] : earlier->items()) layers[name]["width"] = width;
  if (json.contains("layers")) layers.merge_patch(json["layers"]);
  json["layers"] = std::move(layers);
  json["widths"].erase("per_operation");
  return json;
}

Recipe parse_recipe(std::string_view text, const std::string& source) {
  Recipe recipe;
  read_fields(with_layers(parse_json(text, source)), recipe, source);
  return recipe;
}

nlohmann::json object_of(std::string_view key, nlohmann::json value) {
  auto object = nlohmann::json::object();
  object[std::string(key)] = std::move(value);
  return object;
}

/// The recipe file that says nothing but this option.
nlohmann::json nested(std::string_view path, const nlohmann::json& value) {
  const size_t dot = path.find('.');
  if (dot == std::string_view::npos) return object_of(path, value);
  return object_of(path.substr(0, dot), nested(path.substr(dot + 1), value));
}

/// `path`: NAME.field, or NAME when the value holds all its fields or takes the entry away.
nlohmann::json nested_layer(std::string_view path, const nlohmann::json& value) {
  const size_t dot = path.rfind('.');
  if (value.is_object() || dot == std::string_view::npos) return object_of(path, value);
  return object_of(path.substr(0, dot), object_of(path.substr(dot + 1), value));
}

}  // namespace

Recipe read_recipe(const std::filesystem::path& file) { return parse_recipe(read_file(file), file.string()); }

std::string recipe_text(const Recipe& recipe) { return to_json(recipe); }

std::vector<std::string> recipe_names() {
  std::vector<std::string> names;
  for (const auto& [name, text] : builtin_recipes()) names.emplace_back(name);
  return names;
}

Recipe find_recipe(const std::string& name_or_path) {
  for (const auto& [name, text] : builtin_recipes())
    if (name == name_or_path) return parse_recipe(text, std::string(name));
  user_check(std::filesystem::is_regular_file(name_or_path),
             "recipe '{}': there is neither a file nor a recipe of that name; espq has {}", name_or_path,
             fmt::join(recipe_names(), ", "));
  return read_recipe(name_or_path);
}

void set_field(Recipe& recipe, std::string_view path, const nlohmann::json& value) {
  constexpr std::string_view kLayers = "layers.";
  const nlohmann::json change = path.starts_with(kLayers)
                                    ? object_of("layers", nested_layer(path.substr(kLayers.size()), value))
                                    : nested(path, value);
  Recipe changed = recipe;
  read_fields(change, changed, "recipe");
  recipe = std::move(changed);
}

void set_field(Recipe& recipe, std::string_view assignment) {
  const size_t equals = assignment.find('=');
  user_check(equals != std::string_view::npos && equals > 0, "'{}': expected an option and its value, OPTION=VALUE",
             assignment);
  const std::string_view text = assignment.substr(equals + 1);
  nlohmann::json value = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) value = std::string(text);
  set_field(recipe, assignment.substr(0, equals), value);
}

}  // namespace espq
