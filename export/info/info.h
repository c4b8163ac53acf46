#pragma once
#include <string>

#include "export/espdl/model.h"

namespace espq {

/// The readable dump that esp-ppq 1.3.12 writes beside an .espdl: graph, then every tensor's stored elements (padding
/// included) in NumPy's array notation. Byte for byte the incumbent's text for the same model.
/// Throws UserError for element types that the incumbent cannot print.
std::string info_text(const EspdlModel& model);

}  // namespace espq
