#pragma once
#include <optional>
#include <string>

#include "export/espdl/cipher.h"
#include "export/espdl/model.h"

namespace espq {

/// The payload of the model. Equal models give equal bytes. The order of objects is `model.layout` when it is set (it
/// must name every object exactly once), else the canonical order described at EspdlModel::layout.
std::string write_payload(const EspdlModel& model);

/// The payload in its EDL2 envelope, encrypted when there is a key.
std::string write_espdl(const EspdlModel& model, const std::optional<AesKey>& key = std::nullopt);

}  // namespace espq
