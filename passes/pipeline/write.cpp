#include "passes/pipeline/write.h"

namespace espq {

EspdlOptions file_options(const Recipe& recipe) {
  EspdlOptions options;
  options.identify = !recipe.quirks.anonymous_files;
  options.runtime_level = recipe.lowering.runtime_level;
  return options;
}

TestValues answers(const Conversion& made, const NamedTensors& inputs) {
  if (inputs.empty()) return {};
  return made.recipe.quirks.simulated_test_values ? simulate_test_values(made.quantized, made.chip, inputs)
                                                  : record_test_values(made.chip, inputs);
}

ExportResult export_espdl(const Conversion& made, const NamedTensors& test_inputs, const std::filesystem::path& file,
                          ExportOptions options) {
  const auto metadata = std::move(options.file.metadata);
  options.file = file_options(made.recipe);
  options.file.metadata = metadata;
  options.recipe_text = recipe_text(made.recipe);
  return export_espdl(made.chip, answers(made, test_inputs), file, options);
}

}  // namespace espq
