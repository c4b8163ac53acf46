#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "export/espdl/cipher.h"

namespace espq {

/// One model of a file: still in its EDL1 / EDL2 envelope. A view into the bytes given to list_container().
struct ContainerEntry {
  std::string name;  ///< empty for a file that holds one model and no name
  std::string_view bytes;
};

/// The envelope of a file.
struct Container {
  std::string format;   ///< "EDL1", "EDL2", "PDL1", "PDL2" or "PDL3"
  std::string version;  ///< PDL3: the package's version text
  std::vector<ContainerEntry> entries;
};

/// Reads the directory of a file (single model or package) and checks it: magic, bounds, and the SHA-256 of a PDL3
/// package. Throws UserError beginning with `source`.
Container list_container(std::string_view bytes, const std::string& source);

/// Chooses an entry by name or by decimal position; an empty selection takes the only one. Throws UserError listing the
/// entries.
const ContainerEntry& select_entry(const Container& container, std::string_view selection, const std::string& source);

/// True when the model's payload is encrypted.
bool is_encrypted(std::string_view envelope);

/// Payload of an EDL1 / EDL2 envelope, decrypted. Throws UserError when a key is needed and missing.
std::string open_envelope(std::string_view envelope, const AesKey* key, const std::string& source);

/// EDL2 envelope around the payload, encrypted when there is a key.
std::string make_envelope(std::string_view payload, const AesKey* key);

}  // namespace espq
