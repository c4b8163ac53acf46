#include "export/espdl/inspect.h"

#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/model_files.h"
#include "cli/verbs.h"
#include "core/support/file.h"
#include "export/espdl/reader.h"

namespace espq::cli {

int inspect(const InspectCommand& command) {
  const std::string name = command.model.string(), bytes = read_file(command.model);
  const Container container = list_container(bytes, name);
  const ContainerEntry& entry = select_entry(container, command.access.entry, name);
  EspdlReadOptions options = read_options(command.access);
  options.source = name;
  const EspdlModel model = read_espdl(bytes, options);
  std::cout << (command.json ? inspect_json(model, container, entry).dump(2) + "\n"
                             : inspect_text(model, container, entry));
  return kSuccess;
}

}  // namespace espq::cli
