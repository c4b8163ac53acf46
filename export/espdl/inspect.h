#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "export/espdl/container.h"
#include "export/espdl/model.h"

namespace espq {

/// What a file holds: envelope, versions, metadata, what it proves about its chip, graph inputs and outputs, nodes with
/// operands, types, exponents, attributes and layouts, sizes, test values.
nlohmann::ordered_json inspect_json(const EspdlModel& model, const Container& container, const ContainerEntry& entry);

/// The same as text for people.
std::string inspect_text(const EspdlModel& model, const Container& container, const ContainerEntry& entry);

}  // namespace espq
