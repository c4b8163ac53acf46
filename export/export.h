#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "export/espdl/cipher.h"
#include "export/espdl/convert.h"

namespace espq {

struct ExportOptions {
  EspdlOptions file;
  /// Also write the readable dump (.info) and the quantization of every tensor (.json) beside the .espdl.
  bool companions = true;
  /// The recipe that made the graph; when there is one, it is written beside the others (.options.json).
  std::string recipe_text = {};
  bool encrypt = false;
  std::optional<AesKey> key = {};  ///< for `encrypt`; a random one when it is not given
};

struct ExportResult {
  std::vector<std::filesystem::path> files;  ///< as written, the .espdl first
  std::optional<AesKey> key;                 ///< that opens the .espdl; recorded nowhere else
};

/// Writes a chip graph (Stage::Chip) to `file` and its companions to the same name with other extensions. All files
/// appear whole or none does. Throws UserError: names of tensors or nodes that do not export, unwritable folder.
ExportResult export_espdl(const Graph& chip_graph, const TestValues& tests, const std::filesystem::path& file,
                          const ExportOptions& options = {});

}  // namespace espq
