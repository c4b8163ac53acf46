#include "export/conversion/recipe.h"

#include "core/support/file.h"

namespace espq {

Recipe read_recipe(const std::filesystem::path& file) {
  Recipe recipe;
  from_json(read_file(file), recipe, file.string());
  return recipe;
}

std::string recipe_text(const Recipe& recipe) { return to_json(recipe); }

}  // namespace espq
