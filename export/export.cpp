#include "export/export.h"

#include "core/support/error.h"
#include "core/support/file.h"
#include "export/espdl/writer.h"
#include "export/info/info.h"
#include "export/json/json.h"

namespace espq {

ExportResult export_espdl(const Graph& chip_graph, const TestValues& tests, const std::filesystem::path& file,
                          const ExportOptions& options) {
  user_check(!options.companions || file.extension() == ".espdl",
             "{}: the output needs the extension .espdl, its .info and .json get the same name", file.string());
  const EspdlModel model = to_model(chip_graph, tests, options.file);
  ExportResult result;
  if (options.encrypt) result.key = options.key ? *options.key : random_key();
  std::vector<std::pair<std::filesystem::path, std::string>> files{{file, write_espdl(model, result.key)}};
  if (options.companions) {
    files.emplace_back(std::filesystem::path(file).replace_extension(".info"), info_text(model));
    files.emplace_back(std::filesystem::path(file).replace_extension(".json"), quantization_text(chip_graph));
  }
  if (!options.recipe_text.empty()) {
    files.emplace_back(std::filesystem::path(file).replace_extension(".options.json"), options.recipe_text);
  }
  write_files(files);
  for (const auto& [path, bytes] : files) result.files.push_back(path);
  return result;
}

}  // namespace espq
