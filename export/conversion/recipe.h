#pragma once
#include <filesystem>
#include <string>

#include "passes/lowering/lower.h"
#include "passes/pipeline.h"

namespace espq {

/// Every option between a float model and its file: what a recipe file holds and what stands beside each .espdl.
struct Recipe {
  QuantizeOptions quantize;
  LowerOptions lowering;
  /// Record target, espq's version and the runtime level in the file. esp-ppq 1.3.12 writes none of them.
  bool identify = true;
  /// Record what Simulated precision computes for the test inputs instead of the board's numbers, as esp-ppq 1.3.12
  /// does.
  bool simulated_test_values = false;
};

template <class Fields>
void describe(Fields& fields, Recipe& recipe) {
  describe(fields, recipe.quantize);
  fields("lowering", recipe.lowering);
  fields("identify", recipe.identify);
  fields("simulated_test_values", recipe.simulated_test_values);
}

/// A recipe file (JSON): keys that it does not name keep their defaults. Throws UserError naming file and key.
Recipe read_recipe(const std::filesystem::path& file);

/// The recipe as a file that read_recipe() reads back.
std::string recipe_text(const Recipe& recipe);

}  // namespace espq
