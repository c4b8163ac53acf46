#include "tests/peer_cases/peer_runs.h"

#include <nlohmann/json.hpp>

#include "core/support/file.h"

namespace espq {
namespace {

using nlohmann::json;

AlignMethod align_method(const std::string& text) {
  if (text == "Align to Output") return AlignMethod::Output;
  if (text == "Align to Input") return AlignMethod::Input;
  if (text == "Align to Large") return AlignMethod::Large;
  user_check(text == "None", "unknown alignment '{}'", text);
  return AlignMethod::None;
}

Observer observer(const std::string& text) {
  if (text == "minmax") return Observer::MinMax;
  if (text == "percentile") return Observer::Percentile;
  if (text == "mse") return Observer::MeanSquaredError;
  user_check(text == "kl", "unknown calibration method '{}'", text);
  return Observer::KlDivergence;
}

void apply_alignment(const json& setting, AlignOptions& options) {
  for (const auto& [key, value] : setting.items()) {
    if (key == "align_elementwise_to")
      options.elementwise = align_method(value);
    else if (key == "align_concat_to")
      options.concat = align_method(value);
    else if (key == "align_avgpooling_to")
      options.pooling = align_method(value);
    else if (key == "align_resize_to")
      options.resize = align_method(value);
    else
      user_check(key == "force_alignment_overlap", "unknown fusion setting '{}'", key);
    if (key == "force_alignment_overlap") options.force_overlap = value;
  }
}

void apply_observers(const json& setting, ObserverChoice& options) {
  if (setting.contains("calib_algorithm")) options.activations_int8 = observer(setting["calib_algorithm"]);
  if (setting.contains("calib_algorithm_per_layer"))
    for (const auto& [operation, method] : setting["calib_algorithm_per_layer"].items())
      options.activations_of[operation] = observer(method);
}

/// Translates the options of a run; gives the first one that has no counterpart.
std::string apply(const json& options, QuantizeOptions& recipe) {
  if (!options.contains("setting")) return {};
  for (const auto& [key, value] : options["setting"].items()) {
    if (key == "quantize_activation_setting")
      apply_observers(value, recipe.observers);
    else if (key == "quantize_parameter_setting")
      recipe.observers.parameters_int8 = observer(value["calib_algorithm"]);
    else if (key == "fusion_setting")
      apply_alignment(value, recipe.alignment);
    else if (key != "espdl_attention_fusion")
      return key;
  }
  for (const auto& [operation, scheme] : options["dispatch"].items())
    recipe.widths.per_operation[operation] = scheme == "none"   ? OperationWidth::Float
                                             : scheme == "w8a8" ? OperationWidth::Int8
                                                                : OperationWidth::Int16;
  return {};
}

}  // namespace

std::filesystem::path PeerRun::model() const {
  const std::filesystem::path simplified = case_folder / "simplified.onnx";
  return std::filesystem::exists(simplified) ? simplified : original();
}

std::vector<PeerRun> peer_runs(const std::filesystem::path& collection, const std::string& name,
                               const std::string& target) {
  const json manifest = json::parse(read_file(collection / "manifest.json"));
  std::vector<PeerRun> runs;
  for (const json& entry : manifest.at("cases")) {
    if (!name.empty() && entry.at("name") != name) continue;
    for (const json& run : entry.at("runs")) {
      if (run.at("quant") != "w8a8" || (!target.empty() && run.at("target") != target)) continue;
      PeerRun result{entry.at("name"), run.at("folder"), run.at("target"), collection / entry.at("name"), {}, {}, {}};
      read_recipe(ESPQ_RECIPES "/esp-ppq-1.3.12.json", result.options);
      result.options.target = result.target;
      result.unsupported = apply(run.at("options"), result.options);
      if (run.contains("error")) result.error = run.at("error");
      runs.push_back(std::move(result));
    }
  }
  return runs;
}

}  // namespace espq
