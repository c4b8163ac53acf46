#include <iostream>

#include "cli/model_files.h"
#include "cli/verbs.h"
#include "core/exec/executor.h"
#include "core/support/error.h"
#include "export/espdl/convert.h"

namespace espq::cli {
namespace {

void write_outputs(const std::filesystem::path& folder, const Graph& graph, const Tensors& outputs) {
  std::error_code status;
  std::filesystem::create_directories(folder, status);
  user_check(!status, "{}: cannot be made: {}", folder.string(), status.message());
  const std::vector<std::string> files = file_names(names_of(graph.outputs()));
  for (size_t i = 0; i < outputs.size(); ++i) {
    write_npy(folder / files[i], outputs[i]);
    std::cout << fmt::format("{}: {} [{}]\n", (folder / files[i]).string(), c10::toString(outputs[i].scalar_type()),
                             fmt::join(outputs[i].sizes(), ", "));
  }
}

Tensors run_float(const RunCommand& command, const Graph& graph) {
  user_check(command.precision.empty() || command.precision == "float",
             "{}: is a float model; quantize it first, then run the .espdl file in {} precision",
             command.model.string(), command.precision);
  return Executor(graph, Precision::Float).run(Dataset({read_inputs(command.inputs)}).inputs(graph, 0));
}

Tensors run_espdl(const RunCommand& command, const Graph& graph) {
  user_check(command.input_shapes.empty(), "{}: --input-shape is for float models", command.model.string());
  const Precision precision = command.precision.empty() ? Precision::Board : parse_precision(command.precision);
  const std::vector<std::string> names = names_of(graph.outputs());
  const NamedTensors outputs = Executor(graph, precision).run(read_inputs(command.inputs), names);
  Tensors ordered;
  for (const std::string& name : names) ordered.push_back(outputs.at(name));
  return ordered;
}

}  // namespace

int run(const RunCommand& command) {
  const bool is_float = is_float_model(command.model);
  user_check(is_float || command.model.extension() == ".espdl", "{}: is no {} or .espdl file", command.model.string(),
             kFloatModels);
  if (is_float) {
    // The inputs say which shapes the user means, if the model leaves them open.
    const Dataset::Batch example = command.input_shapes.empty() ? read_inputs(command.inputs) : Dataset::Batch{};
    const Graph graph = import_float_model(command.model, command.input_shapes, example);
    write_outputs(command.out_dir, graph, run_float(command, graph));
  } else {
    const EspdlModel model = read_espdl_file(command.model, read_options(command.access));
    const Graph graph = from_model(model, choose_target(model, command.target));
    write_outputs(command.out_dir, graph, run_espdl(command, graph));
  }
  return kSuccess;
}

}  // namespace espq::cli
