#pragma once
// The runs of the reference collection's peer_cases, as options of espq.
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/support/error.h"
#include "core/support/file.h"
#include "passes/pipeline/convert.h"
#include "tests/reference_data.h"

namespace espq {

/// One run of esp-ppq 1.3.12 on one network.
struct PeerRun {
  std::string network;           ///< folder of the case
  std::filesystem::path folder;  ///< with peer.espdl and, not always, peer.json
  std::filesystem::path model;   ///< the network that was quantized
  std::filesystem::path calibration;
  Recipe recipe;        ///< of parity with the run's settings
  std::string skipped;  ///< why espq cannot repeat it (a training method, say); empty = it can
  std::string name() const { return network + "/" + folder.filename().string(); }
  bool has_json() const { return std::filesystem::exists(folder / "peer.json"); }
};

inline void apply_peer_setting(const nlohmann::json& setting, Recipe& recipe, std::string& skipped) {
  const auto observer = [](const nlohmann::json& name) {
    return parse_enum<Observer>(name.get<std::string>(), "observer");
  };
  const auto method = [](const nlohmann::json& name) {
    const std::string text = name.get<std::string>();  // "Align to Output", "None"
    return parse_enum<AlignMethod>(text == "None"              ? "none"
                                   : text == "Align to Output" ? "output"
                                   : text == "Align to Input"  ? "input"
                                                               : "large",
                                   "alignment");
  };
  for (const auto& [group, fields] : setting.items()) {
    if (group == "convtranspose_decomposition" || group == "espdl_attention_fusion") {
      if (group == "convtranspose_decomposition" && !fields.get<bool>()) recipe.decompose_conv_transpose.reset();
      continue;
    }
    if (!fields.is_object()) {
      skipped = group;
      continue;
    }
    for (const auto& [key, value] : fields.items()) {
      if (group == "quantize_activation_setting" && key == "calib_algorithm")
        recipe.calibration.observer = recipe.calibration.observer_int16 = observer(value);
      else if (group == "quantize_activation_setting" && key == "calib_algorithm_per_layer")
        for (const auto& [operation, name] : value.items()) recipe.layers[operation].observer = observer(name);
      else if (group == "quantize_parameter_setting" && key == "calib_algorithm")
        recipe.calibration.parameter_observer = recipe.calibration.parameter_observer_int16 = observer(value);
      else if (key == "align_elementwise_to")
        recipe.alignment.elementwise = method(value);
      else if (key == "align_concat_to")
        recipe.alignment.concat = method(value);
      else if (key == "align_avgpooling_to")
        recipe.alignment.pooling = method(value);
      else if (key == "align_resize_to")
        recipe.alignment.resize = method(value);
      else if (key == "force_alignment_overlap")
        recipe.alignment.force_overlap = value.get<bool>();
      else if (group == "lut_optimization_setting" && key == "step")
        recipe.tables->step = value.get<int>();
      else
        skipped = group;
    }
  }
}

/// `recipe`: recipes/esp-ppq-1.3.12.json of this repository.
inline PeerRun read_peer_run(const std::filesystem::path& folder, const std::filesystem::path& recipe) {
  PeerRun run;
  run.folder = folder;
  const std::filesystem::path network = folder.parent_path();
  run.network = network.filename();
  run.model = network / (std::filesystem::exists(network / "simplified.onnx") ? "simplified.onnx" : "model.onnx");
  run.calibration = network / "calib";
  run.recipe = read_recipe(recipe);
  const std::string name = folder.filename().string();  // <target>_<quant>[_<option>]
  const size_t first = name.find('_'), second = name.find('_', first + 1);
  run.recipe.target = name.substr(0, first);
  const std::string quant = name.substr(first + 1, second - first - 1);
  run.recipe.widths.bits = quant == "w8a8" ? 8 : 16;
  if (quant == "w8a16") run.skipped = "8-bit weights with 16-bit activations";
  if (!std::filesystem::exists(folder / "options.json")) return run;
  const auto json = nlohmann::json::parse(read_file(folder / "options.json"));
  apply_peer_setting(json.at("setting"), run.recipe, run.skipped);
  for (const auto& [operation, width] : json.at("dispatch").items())
    run.recipe.layers[operation].width = width == "none"     ? Width::Float
                                         : width == "w16a16" ? Width::Int16
                                                             : Width::Int8;
  return run;
}

/// All runs in name order; cases that esp-ppq cannot quantize have none.
inline std::vector<PeerRun> peer_runs(const std::filesystem::path& recipe) {
  std::vector<std::filesystem::path> folders;
  for (const auto& network : std::filesystem::directory_iterator(peer_cases().folder)) {
    if (!network.is_directory()) continue;
    for (const auto& folder : std::filesystem::directory_iterator(network.path()))
      if (std::filesystem::exists(folder.path() / "peer.espdl")) folders.push_back(folder.path());
  }
  std::sort(folders.begin(), folders.end());
  std::vector<PeerRun> runs;
  runs.reserve(folders.size());
  for (const auto& folder : folders) runs.push_back(read_peer_run(folder, recipe));
  return runs;
}

}  // namespace espq
