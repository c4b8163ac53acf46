#include "export/espdl/diff.h"

#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/verbs.h"
#include "export/espdl/reader.h"

namespace espq::cli {

int diff(const DiffCommand& command) {
  const auto differences = espq::diff(read_espdl_file(command.first), read_espdl_file(command.second));
  if (command.json) {
    std::cout << to_json(differences).dump(2) << "\n";
  } else {
    std::cout << (differences.empty() ? "equal\n" : to_text(differences));
  }
  return differences.empty() ? kSuccess : kFailure;
}

}  // namespace espq::cli
