#include "export/espdl/inspect.h"

#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/verbs.h"
#include "core/support/file.h"
#include "export/espdl/reader.h"

namespace espq::cli {

int inspect(const InspectCommand& command) {
  const std::string name = command.model.string(), bytes = read_file(command.model);
  const Container container = list_container(bytes, name);
  const ContainerEntry& entry = select_entry(container, {}, name);
  const EspdlModel model = read_espdl(bytes, {.source = name, .key = {}, .entry = {}});
  std::cout << (command.json ? inspect_json(model, container, entry).dump(2) + "\n"
                             : inspect_text(model, container, entry));
  return kSuccess;
}

}  // namespace espq::cli
