#pragma once
#include <cstdlib>
#include <filesystem>
#include <string>

namespace espq {

/// One kind of reference cases: the folder of the collection where there is one, else the subset in tests/data that
/// select_reference_cases.py chose. Both are laid out the same.
struct ReferenceCases {
  std::filesystem::path folder;
  bool whole;  ///< the collection's

  /// How many cases a test must have met.
  int at_least(int of_collection, int of_subset) const { return whole ? of_collection : of_subset; }
};

/// A folder of the collection, which may be missing. The environment variable wins over the build option.
inline std::filesystem::path reference_collection(const std::string& folder) {
  const char* chosen = std::getenv("ESPQ_REFERENCE_DATA");
  const std::filesystem::path collection = chosen && *chosen ? chosen : ESPQ_REFERENCE_DATA;
  return collection / folder;
}

/// `kind`: "board" or "peer".
inline ReferenceCases reference_cases(const std::string& kind) {
  const std::filesystem::path folder = reference_collection(kind + "_cases");
  if (std::filesystem::exists(folder / "manifest.json")) return {folder, true};
  return {std::filesystem::path(ESPQ_TEST_DATA) / kind, false};
}

/// Models with the chip library's answers.
inline ReferenceCases board_cases() { return reference_cases("board"); }
/// Networks with the files that esp-ppq 1.3.12 made of them.
inline ReferenceCases peer_cases() { return reference_cases("peer"); }

}  // namespace espq
