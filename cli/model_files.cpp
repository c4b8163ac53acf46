#include "cli/model_files.h"

#include <spdlog/spdlog.h>

#include <cctype>
#include <set>

#include "core/analysis/match_graphs.h"
#include "core/data/image_sample.h"
#include "core/support/error.h"
#include "export/espdl/convert.h"
#include "onnx_frontend/onnx_frontend.h"
#include "passes/legalize/cut_arg_max.h"

namespace espq::cli {

EspdlReadOptions read_options(const EspdlAccess& access) {
  EspdlReadOptions options;
  if (!access.key.empty()) options.key = parse_key(access.key);
  options.entry = access.entry;
  return options;
}

EspdlAccess access_to(const EspdlAccesses& files, size_t index) {
  const auto word = [&](const std::vector<std::string>& words) {
    return words.empty() ? "" : words[std::min(index, words.size() - 1)];
  };
  return {word(files.keys), word(files.entries)};
}

const Target& choose_target(const EspdlModel& model, const std::string& named) {
  return named.empty() ? infer_target(model) : find_target(named);
}

Precision parse_precision(const std::string& text) {
  return text == "float" ? Precision::Float : text == "simulated" ? Precision::Simulated : Precision::Board;
}

RunnableFile open_runnable(const std::filesystem::path& file, const RunnableChoice& choice,
                           const Dataset::Batch& example) {
  const bool is_float = is_float_model(file);
  user_check(is_float || file.extension() == ".espdl", "{}: is no {} or .espdl file", file.string(), kFloatModels);
  if (is_float) {
    user_check(choice.precision.empty() || choice.precision == "float",
               "{}: is a float model; quantize it first, then run the .espdl file in {} precision", file.string(),
               choice.precision);
    return {import_float_model(file, choice.input_shapes, example), Precision::Float};
  }
  user_check(choice.input_shapes.empty(), "{}: --input-shape is for float models", file.string());
  const EspdlModel model = read_espdl_file(file, read_options(choice.access));
  Graph graph = from_model(model, choose_target(model, choice.target));
  assume_permutations(graph);
  return {std::move(graph), choice.precision.empty() ? Precision::Board : parse_precision(choice.precision)};
}

Dataset::Batch read_inputs(const std::vector<NamedFile>& files, const ImageOptions& images) {
  Dataset::Batch inputs;
  for (const NamedFile& input : files) {
    at::Tensor tensor = is_image_file(input.file) ? read_image_sample(input.file, images) : read_npy(input.file);
    if (tensor.is_floating_point()) {
      tensor = tensor.to(at::kFloat);
      user_check(at::isfinite(tensor).all().item<bool>(), "{}: holds NaN or infinite values", input.file.string());
    }
    user_check(inputs.emplace(input.name, tensor).second, "input '{}' is given twice", input.name);
  }
  return inputs;
}

std::map<std::string, Shape> shapes_by_name(const std::vector<NamedShape>& shapes) {
  std::map<std::string, Shape> result;
  for (const NamedShape& shape : shapes) {
    user_check(result.emplace(shape.name, shape.dims).second, "the shape of input '{}' is given twice", shape.name);
  }
  return result;
}

Recipe choose_recipe(const RecipeChoice& choice) {
  Recipe recipe = choice.recipe.empty() ? Recipe() : find_recipe(choice.recipe);
  for (const std::string& setting : choice.settings) set_field(recipe, setting);
  return recipe;
}

bool is_float_model(const std::filesystem::path& file) {
  const auto ending = file.extension();
  return ending == ".onnx" || ending == ".pt" || ending == ".pt2";
}

TorchImportOptions torch_options(const std::vector<NamedShape>& shapes, const Dataset::Batch& example) {
  static const std::map<std::string_view, at::ScalarType> types = {
      {"float32", at::kFloat}, {"int64", at::kLong}, {"int32", at::kInt}, {"int16", at::kShort},
      {"int8", at::kChar},     {"uint8", at::kByte}, {"bool", at::kBool}};
  TorchImportOptions options{shapes_by_name(shapes), {}, {example.begin(), example.end()}, {}};
  for (const NamedShape& shape : shapes) {
    if (shape.type.empty()) continue;
    if (shape.type == "value") {
      user_check(shape.dims.size() == 1, "input '{}': a value is one number, for example 16000:value", shape.name);
      options.input_shapes.erase(shape.name);
      options.input_values[shape.name] = static_cast<double>(shape.dims[0]);
      continue;
    }
    const auto type = types.find(shape.type);
    user_check(type != types.end(),
               "input '{}': element type '{}' is none of float32, int64, int32, int16, int8, uint8, bool", shape.name,
               shape.type);
    options.input_types[shape.name] = type->second;
  }
  return options;
}

Graph import_float_model(const std::filesystem::path& file, const std::vector<NamedShape>& shapes,
                         const Dataset::Batch& example) {
  user_check(is_float_model(file), "{}: is no {} file", file.string(), kFloatModels);
  if (file.extension() == ".onnx") return import_onnx(file, {shapes_by_name(shapes)});
  return import_torch(file, torch_options(shapes, example));
}

void end_as_files_do(Graph& graph) {
  for (const std::string& warning : cut_arg_max(graph).warnings) spdlog::warn("{}", warning);
}

void make_folder(const std::filesystem::path& folder) {
  std::error_code status;
  std::filesystem::create_directories(folder, status);
  user_check(!status, "{}: cannot be made: {}", folder.string(), status.message());
}

std::vector<std::string> file_names(const std::vector<std::string>& names) {
  std::vector<std::string> files;
  std::set<std::string> used;
  for (const std::string& name : names) {
    std::string file = name.empty() ? "output" : name;
    for (char& character : file) {
      if (!std::isalnum(static_cast<unsigned char>(character)) &&
          std::string_view("._-").find(character) == std::string_view::npos)
        character = '_';
    }
    if (file.front() == '.') file.front() = '_';
    std::string unique = file;
    for (int number = 2; !used.insert(unique).second; ++number) unique = fmt::format("{}_{}", file, number);
    files.push_back(unique + ".npy");
  }
  return files;
}

}  // namespace espq::cli
