#include "export/espdl/diff.h"

#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/model_files.h"
#include "cli/verbs.h"

namespace espq::cli {

int diff(const DiffCommand& command) {
  const auto read = [&](const std::filesystem::path& file, size_t index) {
    return read_espdl_file(file, read_options(access_to(command.files, index)));
  };
  const auto differences = espq::diff(read(command.first, 0), read(command.second, 1));
  if (command.json) {
    std::cout << to_json(differences).dump(2) << "\n";
  } else {
    std::cout << (differences.empty() ? "equal\n" : to_text(differences));
  }
  return differences.empty() ? kSuccess : kFailure;
}

}  // namespace espq::cli
