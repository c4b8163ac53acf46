#pragma once
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

namespace espq {

/// Networks to measure: folders with model.onnx and calib/, in the order of their names; all, or those named in `only`.
inline std::vector<std::filesystem::path> case_folders(const std::filesystem::path& folder,
                                                       const std::vector<std::string>& only) {
  std::vector<std::filesystem::path> result;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const bool wanted = only.empty() || std::find(only.begin(), only.end(), name) != only.end();
    if (wanted && std::filesystem::exists(entry.path() / "model.onnx")) result.push_back(entry.path());
  }
  std::sort(result.begin(), result.end());
  return result;
}

/// What stands behind FOLDER and --only on a command line.
inline std::vector<std::string> only_cases(int argc, char** argv) {
  return argc > 3 ? std::vector<std::string>(argv + 3, argv + argc) : std::vector<std::string>{};
}

}  // namespace espq
