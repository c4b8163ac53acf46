#pragma once
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "passes/legalize/legalize.h"
#include "passes/lowering/lower.h"
#include "passes/optimize/center_channels.h"
#include "passes/optimize/center_logits.h"
#include "passes/optimize/correct_biases.h"
#include "passes/optimize/equalize.h"
#include "passes/optimize/learn_rounding.h"
#include "passes/optimize/mixed_precision.h"
#include "passes/optimize/search_exponents.h"
#include "passes/optimize/split_channels.h"
#include "passes/optimize/split_layers.h"
#include "passes/optimize/train_thresholds.h"
#include "passes/optimize/virtual_zero_point.h"
#include "passes/quantize/align_scales.h"
#include "passes/quantize/assign_widths.h"
#include "passes/quantize/fit_accumulators.h"
#include "passes/quantize/layers.h"
#include "passes/quantize/observer.h"
#include "passes/quantize/retype_tables.h"
#include "passes/quirks.h"
#include "passes/simplify/decompose_conv_transpose.h"
#include "passes/simplify/simplify.h"

namespace espq {

/// Everything that decides the result between a float graph and its file. The defaults are espq's own choices;
/// recipes/esp-ppq-1.3.12.json reproduces that package. A pass that may be left out is an optional, and leaving it
/// empty is the only way to leave it out. docs/quantization_scheme.md explains every option.
struct Recipe {
  std::string target = "esp32p4";
  std::optional<SimplifyOptions> simplify = SimplifyOptions();
  std::optional<DecomposeConvTransposeOptions> decompose_conv_transpose = DecomposeConvTransposeOptions();
  std::optional<LegalizeOptions> legalize = LegalizeOptions();
  std::optional<EqualizeOptions> equalize = {};
  std::optional<CenterChannelsOptions> center_channels = {};
  std::optional<SplitChannelsOptions> split_channels = {};
  std::optional<CenterLogitsOptions> center_logits = {};
  std::optional<SplitLayersOptions> split_layers = {};
  std::optional<MixedPrecisionOptions> mixed_precision = {};
  WidthOptions widths = {};
  /// A .json file of espq or esp-ppq to take exponents and widths from; empty = calibrate. What the file does not say
  /// is calibrated.
  std::string load_quantization = {};
  CalibrationOptions calibration = {};
  AlignOptions alignment = {};
  std::optional<CorrectBiasesOptions> correct_biases = {};
  std::optional<SearchExponentsOptions> search_exponents = {};
  std::optional<TrainThresholdsOptions> train_thresholds = {};
  std::optional<LearnRoundingOptions> learn_rounding = {};
  std::optional<VirtualZeroPointOptions> virtual_zero_point = {};
  std::optional<AccumulatorOptions> accumulators = AccumulatorOptions();
  std::optional<TableOptions> tables = TableOptions();
  LowerOptions lowering = {};
  Layers layers = {};  ///< what single operations do differently
  Quirks quirks = {};
};

/// A recipe file (JSON). Keys that it does not name keep their defaults; null and false leave a pass out, true and {}
/// ask for its defaults. Throws UserError naming file and key, with the nearest key or the allowed words.
Recipe read_recipe(const std::filesystem::path& file);

/// The recipe as a file that read_recipe() reads back: what stands beside each .espdl.
std::string recipe_text(const Recipe& recipe);

/// Names of the recipes that espq brings along: the files of recipes/.
std::vector<std::string> recipe_names();

/// The recipe of that name, else of that file. Throws UserError listing the names when it is neither.
Recipe find_recipe(const std::string& name_or_path);

/// Changes one option: its keys joined by dots ("calibration.observer"), and its new value as in a recipe file. In
/// "layers.NAME.width" the name may contain dots. Throws UserError as read_recipe() does; then nothing has changed.
void set_field(Recipe& recipe, std::string_view path, const nlohmann::json& value);

/// The same for "calibration.observer=kl": what is no JSON counts as a string.
void set_field(Recipe& recipe, std::string_view assignment);

}  // namespace espq
