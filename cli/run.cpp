#include <iostream>

#include "cli/model_files.h"
#include "cli/verbs.h"
#include "core/analysis/sample_runner.h"
#include "core/support/error.h"

namespace espq::cli {

int run(const RunCommand& command) {
  const Dataset::Batch inputs = read_inputs(command.inputs, command.data.image);
  // The inputs say which shapes the user means, if a float model leaves them open.
  const Dataset::Batch example = command.input_shapes.empty() ? inputs : Dataset::Batch{};
  const RunnableFile model =
      open_runnable(command.model, {command.precision, command.target, command.input_shapes, command.access}, example);
  const Tensors outputs =
      SampleRunner({model.graph, model.precision}, {.codes = true, .chip_layout = true}).run(inputs, "the inputs");
  make_folder(command.out_dir);
  const std::vector<std::string> files = file_names(names_of(model.graph.outputs()));
  for (size_t i = 0; i < outputs.size(); ++i) {
    write_npy(command.out_dir / files[i], outputs[i]);
    std::cout << fmt::format("{}: {} [{}]\n", (command.out_dir / files[i]).string(),
                             c10::toString(outputs[i].scalar_type()), fmt::join(outputs[i].sizes(), ", "));
  }
  return kSuccess;
}

}  // namespace espq::cli
