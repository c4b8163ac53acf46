#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "export/espdl/cipher.h"
#include "export/espdl/model.h"

namespace espq {

struct EspdlReadOptions {
  std::string source = ".espdl";   ///< how error messages call the file
  std::optional<AesKey> key = {};  ///< for encrypted models
  std::string entry = {};          ///< packages: name or position of the model; may stay empty when there is one
};

/// Reads a model of any published generation from a single-model file (EDL1, EDL2) or a package (PDL1 to PDL3), plain
/// or encrypted. Every offset is checked before it is followed and every tensor's bytes are checked against its shape,
/// so damaged and hostile files throw UserError.
EspdlModel read_espdl(std::string_view bytes, const EspdlReadOptions& options = {});

/// The same from a file; errors name the file.
EspdlModel read_espdl_file(const std::filesystem::path& file, EspdlReadOptions options = {});

/// Reads a bare payload (no envelope).
EspdlModel read_payload(std::string_view payload, const std::string& source);

}  // namespace espq
