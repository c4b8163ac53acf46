#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <ctime>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/model_files.h"
#include "cli/progress.h"
#include "cli/verbs.h"
#include "core/analysis/statistics.h"
#include "core/data/sample_files.h"
#include "core/support/error.h"
#include "core/support/file.h"
#include "passes/optimize/distill_inputs.h"
#include "passes/optimize/held_out.h"
#include "passes/pipeline/write.h"

namespace espq::cli {
namespace {

constexpr size_t kReportedLayers = 10;

/// One sample per input: normally distributed numbers; inputs that are no floats take the first calibration batch's.
NamedTensors random_inputs(const Graph& graph, const Dataset& calibration, uint64_t seed) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  const Tensors first = calibration.size() > 0 ? calibration.inputs(graph, 0) : zero_inputs(graph);
  NamedTensors inputs;
  for (size_t i = 0; i < first.size(); ++i) {
    const Variable& input = *graph.inputs()[i];
    inputs[input.name()] = first[i].is_floating_point() ? at::randn(*input.shape(), generator) : first[i];
  }
  return inputs;
}

NamedTensors test_inputs(const QuantizeCommand& command, const Graph& graph, const Dataset& calibration) {
  if (command.random_test_values) return random_inputs(graph, calibration, command.seed);
  if (command.test_inputs.empty()) return {};
  const Dataset given({read_inputs(command.test_inputs, command.data.image)});
  const Tensors tensors = given.inputs(graph, 0);
  NamedTensors inputs;
  for (size_t i = 0; i < tensors.size(); ++i) inputs[graph.inputs()[i]->name()] = tensors[i];
  return inputs;
}

Dataset calibration_data(const QuantizeCommand& command, const Graph& network) {
  if (!command.drawn) {
    if (command.calibration.empty()) return Dataset();
    Dataset data = open_dataset(command.calibration, command.data);
    return command.mirror_axis ? with_mirror_images(data, *command.mirror_axis) : data;
  }
  DrawnInputs drawn = *command.drawn;
  drawn.seed = command.seed;
  if (command.steps) drawn.batches = *command.steps;
  spdlog::warn(
      "calibrated on {} batches of {} inputs: real inputs excite a network otherwise, and what is beyond the ranges "
      "found is clipped; calibrate with inputs of the application before you judge the accuracy",
      drawn.batches, command.distill ? "distilled" : "drawn");
  Dataset inputs = draw_inputs(network, drawn);
  if (!command.distill) return inputs;
  const ProgressBar progress(!command.quiet);
  DistillInputsOptions options;
  options.steps = *command.distill;
  options.range = drawn.range;
  return distill_inputs(network, inputs, options);
}

Recipe make_recipe(const QuantizeCommand& command) {
  Recipe recipe = choose_recipe(command.recipe);
  recipe.target = command.target;
  if (command.bits) recipe.widths.bits = *command.bits;
  if (command.allow_missing_kernels) recipe.widths.check_kernels = false;
  if (command.steps) recipe.calibration.steps = *command.steps;
  if (!command.load_quantization.empty()) recipe.load_quantization = command.load_quantization.string();
  return recipe;
}

/// Calls `analysis` and returns what it gives with the seconds it took.
nlohmann::ordered_json with_seconds(const std::function<nlohmann::ordered_json()>& analysis) {
  const auto start = std::chrono::steady_clock::now();
  const std::clock_t processor_start = std::clock();
  nlohmann::ordered_json rows = analysis();
  return {{"seconds", std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()},
          {"processor_seconds", static_cast<double>(std::clock() - processor_start) / CLOCKS_PER_SEC},
          {"rows", std::move(rows)}};
}

/// The table for the terminal and the file of all analyses, as far as they are wanted.
void analyse(const QuantizeCommand& command, const Conversion& made, const Dataset& calibration) {
  if ((command.quiet && command.analysis.empty()) || calibration.size() == 0) return;
  const ProgressBar progress(!command.quiet);
  const Graph& graph = made.quantized;
  ErrorAnalysisOptions options;
  options.reference = &made.reference;
  options.batches = static_cast<size_t>(command.analysis_batches);
  nlohmann::ordered_json json = {{"batches", std::min(options.batches, calibration.size())},
                                 {"measure", "noise to signal"}};
  json["graph_wise"] = with_seconds([&] {
    const auto errors = graphwise_errors(graph, calibration, options);
    if (!command.quiet)
      std::cout << fmt::format("on {} calibration batches:\n", json["batches"].get<size_t>())
                << to_text(errors, options.measure, kReportedLayers);
    json["outputs"] = to_json(errors.outputs);
    return to_json(errors.operations);
  });
  if (command.analysis.empty()) return;
  json["layer_wise"] = with_seconds([&] { return to_json(layerwise_errors(graph, calibration, options)); });
  json["statistics"] = with_seconds([&] { return to_json(slot_statistics(graph, calibration, options.batches)); });
  write_file(command.analysis, json.dump(2) + "\n");
}

}  // namespace

int quantize(const QuantizeCommand& command) {
  const Recipe recipe = make_recipe(command);
  const Graph network = import_float_model(command.model, command.input_shapes);
  const Dataset calibration = calibration_data(command, network);
  // Read before the long part, so that a wrong file is known at once.
  const NamedTensors tests = test_inputs(command, network, calibration);
  const Conversion made = [&] {
    const ProgressBar progress(!command.quiet);
    return convert(network, calibration, recipe);
  }();
  ExportOptions options;
  if (command.drawn)
    options.file.metadata.emplace_back("calibration", command.distill ? "distilled inputs" : "drawn inputs");
  options.encrypt = command.encrypt;
  if (!command.key.empty()) options.key = parse_key(command.key);
  const ExportResult result = export_espdl(made, tests, command.out, options);
  if (command.encrypt && command.key.empty())
    std::cout << fmt::format("key (recorded nowhere else): {}\n", to_text(*result.key));
  analyse(command, made, calibration);
  if (!command.quiet) std::cout << command.out.string() << "\n";
  return kSuccess;
}

}  // namespace espq::cli
