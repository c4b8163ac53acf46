#pragma once
#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace espq {

/// Compares two quantization files operation by operation and slot by slot: width, platform, policy, whether the tensor
/// is quantized, and its scale. Names of tensors and hashes may differ; operations are found by name, their tensors by
/// position. Returns a line per difference; operations of one file only are left out unless `all_operations`.
inline std::vector<std::string> quantization_differences(const nlohmann::ordered_json& first,
                                                         const nlohmann::ordered_json& second, bool all_operations) {
  std::vector<std::string> lines;
  const auto facts = [](const nlohmann::ordered_json& file, const nlohmann::ordered_json& config) {
    const auto value = file["values"].find(std::to_string(config["dominator"].get<uint32_t>()));
    return nlohmann::ordered_json{{"bit_width", config["bit_width"]},
                                  {"policy", config["policy"]},
                                  {"quantized", config["state"] != "FP32"},
                                  {"scale", value == file["values"].end() ? nullptr : (*value)["scale"]}};
  };
  for (const auto& [name, configs] : first["configs"].items()) {
    if (!second["configs"].contains(name)) {
      if (all_operations) lines.push_back(name + ": only in the first file");
      continue;
    }
    const auto& others = second["configs"][name];
    if (configs.size() != others.size()) lines.push_back(name + ": another number of tensors");
    auto other = others.begin();
    for (auto item = configs.begin(); item != configs.end() && other != others.end(); ++item, ++other) {
      const auto left = facts(first, *item), right = facts(second, *other);
      if (left != right) lines.push_back(name + ", " + item.key() + ": " + left.dump() + " / " + right.dump());
    }
    if (first["dispatchings"][name] != second["dispatchings"][name])
      lines.push_back(name + ": " + first["dispatchings"][name].dump() + " / " + second["dispatchings"][name].dump());
  }
  for (const auto& [name, configs] : second["configs"].items())
    if (all_operations && !first["configs"].contains(name)) lines.push_back(name + ": only in the second file");
  return lines;
}

}  // namespace espq
