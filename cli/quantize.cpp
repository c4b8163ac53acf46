#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <chrono>
#include <ctime>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/model_files.h"
#include "cli/progress.h"
#include "cli/verbs.h"
#include "core/analysis/statistics.h"
#include "core/support/error.h"
#include "core/support/file.h"
#include "export/conversion/recipe.h"
#include "export/conversion/test_values.h"
#include "export/export.h"
#include "passes/pipeline.h"

namespace espq::cli {
namespace {

constexpr size_t kReportedLayers = 10;

/// One sample per input: normally distributed numbers; inputs that are no floats take the first calibration batch's.
NamedTensors random_inputs(const Graph& graph, const Dataset& calibration, uint64_t seed) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  const Tensors first = calibration.inputs(graph, 0);
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
  const Dataset given({read_inputs(command.test_inputs)});
  const Tensors tensors = given.inputs(graph, 0);
  NamedTensors inputs;
  for (size_t i = 0; i < tensors.size(); ++i) inputs[graph.inputs()[i]->name()] = tensors[i];
  return inputs;
}

Recipe make_recipe(const QuantizeCommand& command) {
  Recipe recipe = command.recipe.empty() ? Recipe{} : read_recipe(command.recipe);
  recipe.quantize.target = command.target;
  if (command.bits) recipe.quantize.widths.bits = *command.bits;
  if (command.allow_missing_kernels) recipe.quantize.widths.check_kernels = false;
  if (command.steps) recipe.quantize.calibration.steps = *command.steps;
  return recipe;
}

/// Calls `analysis` and returns what it gives with the seconds it took.
nlohmann::ordered_json timed(const std::function<nlohmann::ordered_json()>& analysis) {
  const auto start = std::chrono::steady_clock::now();
  const std::clock_t processor_start = std::clock();
  nlohmann::ordered_json rows = analysis();
  return {{"seconds", std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()},
          {"processor_seconds", static_cast<double>(std::clock() - processor_start) / CLOCKS_PER_SEC},
          {"rows", std::move(rows)}};
}

/// The table for the terminal and the file of all analyses, as far as they are wanted.
void analyse(const QuantizeCommand& command, const Graph& graph, const Dataset& calibration) {
  if (command.quiet && command.analysis.empty()) return;
  const ProgressBar progress(!command.quiet);
  ErrorAnalysisOptions options;
  options.batches = static_cast<size_t>(command.analysis_batches);
  nlohmann::ordered_json json = {{"batches", std::min(options.batches, calibration.size())},
                                 {"measure", "noise to signal"}};
  json["graph_wise"] = timed([&] {
    const auto errors = graphwise_errors(graph, calibration, options);
    if (!command.quiet) std::cout << error_table(errors, options.measure, kReportedLayers);
    return to_json(errors);
  });
  if (command.analysis.empty()) return;
  json["layer_wise"] = timed([&] { return to_json(layerwise_errors(graph, calibration, options)); });
  json["statistics"] = timed([&] { return to_json(slot_statistics(graph, calibration, options.batches)); });
  write_file(command.analysis, json.dump(2) + "\n");
}

}  // namespace

int quantize(const QuantizeCommand& command) {
  const Recipe recipe = make_recipe(command);
  Graph graph = import_float_model(command.model, command.input_shapes);
  const Dataset calibration = Dataset::open(command.calibration);
  // Read before the long part, so that a wrong file is known at once.
  const NamedTensors tests = test_inputs(command, graph, calibration);
  {
    const ProgressBar progress(!command.quiet);
    espq::quantize(graph, calibration, recipe.quantize);
  }
  LowerReport report;
  const Graph chip = lower(graph, recipe.lowering, &report);
  ExportOptions options;
  options.file.identify = recipe.identify;
  options.file.runtime_level = recipe.lowering.runtime_level;
  options.recipe_text = recipe_text(recipe);
  TestValues values;
  if (!tests.empty())
    values = recipe.simulated_test_values ? simulate_test_values(graph, chip, tests) : record_test_values(chip, tests);
  options.encrypt = command.encrypt;
  if (!command.key.empty()) options.key = parse_key(command.key);
  const ExportResult result = export_espdl(chip, values, command.out, options);
  if (command.encrypt && command.key.empty())
    std::cout << fmt::format("key (recorded nowhere else): {}\n", to_text(*result.key));
  for (const std::string& warning : report.warnings) std::cerr << "espq: warning: " << warning << "\n";
  analyse(command, graph, calibration);
  if (!command.quiet) std::cout << command.out.string() << "\n";
  return kSuccess;
}

}  // namespace espq::cli
