#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "cli/command.h"
#include "core/data/dataset.h"
#include "core/exec/executor.h"
#include "core/graph/graph.h"
#include "export/espdl/model.h"
#include "export/espdl/reader.h"
#include "passes/recipe/recipe.h"
#include "torch_frontend/torch_frontend.h"

namespace espq::cli {

/// For read_espdl_file(). Throws UserError on a key that is none.
EspdlReadOptions read_options(const EspdlAccess& access);

/// What the user said for the first (0) or second (1) file.
EspdlAccess access_to(const EspdlAccesses& files, size_t index);

/// The chip that the user named, else the one that the file proves. Throws UserError when neither tells.
const Target& choose_target(const EspdlModel& model, const std::string& named);

/// "float", "simulated" or "board", as the command line checked.
Precision parse_precision(const std::string& text);

/// A file with the precision to run it at.
struct RunnableFile {
  Graph graph;
  Precision precision;
};

/// What a verb says about the file that it runs.
struct RunnableChoice {
  std::string precision = {};  ///< empty = board for .espdl files, float for float models
  std::string target = {};     ///< of .espdl files; empty = found out
  std::vector<NamedShape> input_shapes = {};
  EspdlAccess access = {};
};

/// Opens a float model or an .espdl file. `example` as for import_float_model(). Throws UserError on other endings, and
/// where a choice does not go with the kind of file.
RunnableFile open_runnable(const std::filesystem::path& file, const RunnableChoice& choice,
                           const Dataset::Batch& example);

/// One .npy file or image per name. Throws UserError on a name that comes twice.
Dataset::Batch read_inputs(const std::vector<NamedFile>& files, const ImageOptions& images = {});

/// Shapes by input name. Throws UserError on a name that comes twice.
std::map<std::string, Shape> shapes_by_name(const std::vector<NamedShape>& shapes);

/// espq's own recipe or the one that the user named, with the options that the user set.
Recipe choose_recipe(const RecipeChoice& choice);

/// Names of the endings that import_float_model() takes, for messages.
inline constexpr std::string_view kFloatModels = ".onnx, .pt or .pt2";
/// Does the name end like a float model?
bool is_float_model(const std::filesystem::path& file);
/// The float graph of a .onnx, .pt or .pt2 file. `example` are values of inputs that give shapes, too (.pt, .pt2).
/// Throws UserError on other endings, and as the frontends do.
Graph import_float_model(const std::filesystem::path& file, const std::vector<NamedShape>& shapes,
                         const Dataset::Batch& example = {});
/// A float network that ends in a search (ArgMax) ends in front of it, as the files that are made of it do, so that
/// the two can be compared; warns that it does.
void end_as_files_do(Graph& graph);
/// What the frontend of .pt and .pt2 files wants to know.
TorchImportOptions torch_options(const std::vector<NamedShape>& shapes, const Dataset::Batch& example);

/// Makes the folder, and those above it, unless it is there. Throws UserError naming it.
void make_folder(const std::filesystem::path& folder);

/// NAME.npy with every character replaced that file systems may not like; unique among `names` by position.
std::vector<std::string> file_names(const std::vector<std::string>& names);

}  // namespace espq::cli
