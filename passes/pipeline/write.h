#pragma once
#include <filesystem>

#include "export/conversion/test_values.h"
#include "export/export.h"
#include "passes/pipeline/convert.h"

namespace espq {

/// What the recipe says about the file: the runtime level, and whether it names chip and version.
EspdlOptions file_options(const Recipe& recipe);

/// Inputs (layout of the float network, by name; all of them) with the answers that the file records: the board's, or
/// those of the simulation where the recipe asks for that quirk. None for no inputs.
TestValues answers(const Conversion& made, const NamedTensors& inputs);

/// Writes what convert() or finish() made, with the recipe beside it and `test_inputs` recorded (see answers()).
/// `options.file` and `options.recipe_text` are those of the recipe, whatever they say.
ExportResult export_espdl(const Conversion& made, const NamedTensors& test_inputs, const std::filesystem::path& file,
                          ExportOptions options = {});

}  // namespace espq
