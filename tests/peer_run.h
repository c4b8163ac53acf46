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
#include "passes/pipeline.h"
#include "tests/reference_data.h"

namespace espq {

/// One run of esp-ppq 1.3.12 on one network.
struct PeerRun {
  std::string network;           ///< folder of the case
  std::filesystem::path folder;  ///< with peer.espdl and peer.json
  std::filesystem::path model;   ///< the network that was quantized
  std::filesystem::path calibration;
  QuantizeOptions options;  ///< the parity recipe with the run's settings
  std::string skipped;      ///< why espq cannot repeat it (a training method, say); empty = it can
  std::string name() const { return network + "/" + folder.filename().string(); }
};

inline void apply_peer_setting(const nlohmann::json& setting, QuantizeOptions& options, std::string& skipped) {
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
      if (group == "convtranspose_decomposition") options.float_passes.decompose_conv_transpose = fields.get<bool>();
      continue;
    }
    if (!fields.is_object()) {
      skipped = group;
      continue;
    }
    for (const auto& [key, value] : fields.items()) {
      if (group == "quantize_activation_setting" && key == "calib_algorithm")
        options.observers.activations_int8 = options.observers.activations_int16 = observer(value);
      else if (group == "quantize_activation_setting" && key == "calib_algorithm_per_layer")
        for (const auto& [operation, name] : value.items())
          options.observers.activations_of[operation] = observer(name);
      else if (group == "quantize_parameter_setting" && key == "calib_algorithm")
        options.observers.parameters_int8 = options.observers.parameters_int16 = observer(value);
      else if (key == "align_elementwise_to")
        options.alignment.elementwise = method(value);
      else if (key == "align_concat_to")
        options.alignment.concat = method(value);
      else if (key == "align_avgpooling_to")
        options.alignment.pooling = method(value);
      else if (key == "align_resize_to")
        options.alignment.resize = method(value);
      else if (key == "force_alignment_overlap")
        options.alignment.force_overlap = value.get<bool>();
      else if (group == "lut_optimization_setting" && key == "step")
        options.tables.step = value.get<int>();
      else
        skipped = group;
    }
  }
}

/// The fields of QuantizeOptions from a recipe file, which also holds options of the exporter.
inline QuantizeOptions quantize_part(const std::filesystem::path& recipe) {
  const auto known = nlohmann::json::parse(to_json(QuantizeOptions()));
  const auto file = nlohmann::json::parse(read_file(recipe));
  auto json = nlohmann::json::object();
  for (const auto& [key, value] : file.items())
    if (known.contains(key)) json[key] = value;
  QuantizeOptions options;
  from_json(json.dump(), options, recipe.string());
  return options;
}

/// `recipe`: recipes/esp-ppq-1.3.12.json of this repository.
inline PeerRun read_peer_run(const std::filesystem::path& folder, const std::filesystem::path& recipe) {
  PeerRun run;
  run.folder = folder;
  const std::filesystem::path network = folder.parent_path();
  run.network = network.filename();
  run.model = network / (std::filesystem::exists(network / "simplified.onnx") ? "simplified.onnx" : "model.onnx");
  run.calibration = network / "calib";
  run.options = quantize_part(recipe);
  const std::string name = folder.filename().string();  // <target>_<quant>[_<option>]
  const size_t first = name.find('_'), second = name.find('_', first + 1);
  run.options.target = name.substr(0, first);
  const std::string quant = name.substr(first + 1, second - first - 1);
  run.options.widths.bits = quant == "w8a8" ? 8 : 16;
  if (quant == "w8a16") run.skipped = "8-bit weights with 16-bit activations";
  if (!std::filesystem::exists(folder / "options.json")) return run;
  const auto json = nlohmann::json::parse(read_file(folder / "options.json"));
  apply_peer_setting(json.at("setting"), run.options, run.skipped);
  for (const auto& [operation, width] : json.at("dispatch").items())
    run.options.widths.per_operation[operation] = width == "none"     ? OperationWidth::Float
                                                  : width == "w16a16" ? OperationWidth::Int16
                                                                      : OperationWidth::Int8;
  return run;
}

/// All runs in name order; cases that esp-ppq cannot quantize have none.
inline std::vector<PeerRun> peer_runs(const std::filesystem::path& recipe) {
  std::vector<std::filesystem::path> folders;
  for (const auto& network : std::filesystem::directory_iterator(reference_data() / "peer_cases")) {
    if (!network.is_directory()) continue;
    for (const auto& folder : std::filesystem::directory_iterator(network.path()))
      if (std::filesystem::exists(folder.path() / "peer.json")) folders.push_back(folder.path());
  }
  std::sort(folders.begin(), folders.end());
  std::vector<PeerRun> runs;
  for (const auto& folder : folders) runs.push_back(read_peer_run(folder, recipe));
  return runs;
}

}  // namespace espq
