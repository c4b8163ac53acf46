#include "core/analysis/compare.h"

#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/model_files.h"
#include "cli/progress.h"
#include "cli/verbs.h"
#include "core/analysis/comparison_report.h"
#include "core/data/sample_files.h"
#include "core/support/error.h"
#include "core/support/file.h"
#include "export/espdl/convert.h"
#include "export/espdl/reader.h"
#include "export/html/comparison_page.h"
#include "passes/pipeline/convert.h"

namespace espq::cli {
namespace {

constexpr size_t kReportedLayers = 10;

/// A file with the precision to run it at.
struct Model {
  Graph graph;
  Precision precision;
  std::string title;
};

Graph open_graph(const std::filesystem::path& file, size_t index, const CompareCommand& command) {
  if (file.extension() == ".espdl") {
    const EspdlModel model = read_espdl_file(file, read_options(access_to(command.files, index)));
    return from_model(model, choose_target(model, command.target));
  }
  // The reference is the model as it is. Layers have partners only in the form that conversion gives it.
  if (!command.per_layer) {
    Graph graph = import_float_model(file, command.input_shapes);
    infer_shapes(graph, zero_inputs(graph));
    end_as_files_do(graph);
    return graph;
  }
  return prepare(import_float_model(file, command.input_shapes), choose_recipe(command.recipe));
}

Model open_model(size_t index, const CompareCommand& command) {
  const std::filesystem::path& file = index == 0 ? command.first : command.second;
  const std::string& wanted = index == 0 ? command.first_precision : command.second_precision;
  Graph graph = open_graph(file, index, command);
  const std::string precision = !wanted.empty() ? wanted : graph.is_chip() ? "board" : "float";
  user_check(graph.is_chip() || precision == "float",
             "{}: is a float model; quantize it first, then compare the .espdl file in {} precision", file.string(),
             precision);
  std::string title = fmt::format("{} ({}{})", file.string(), precision,
                                  graph.target() ? fmt::format(", {}", graph.target()->name) : "");
  return {std::move(graph), parse_precision(precision), std::move(title)};
}

}  // namespace

int compare(const CompareCommand& command) {
  const Model a = open_model(0, command);
  const Model b = open_model(1, command);
  const Dataset data = open_dataset(command.inputs, command.data);
  CompareOptions options;
  options.per_layer = command.per_layer;
  if (command.batches) options.batches = static_cast<size_t>(*command.batches);
  const Comparison comparison = [&] {
    const ProgressBar progress(!command.quiet);
    return espq::compare({a.graph, a.precision}, {b.graph, b.precision}, data, options);
  }();
  if (!command.json.empty()) {
    nlohmann::ordered_json json = {{"a", a.title}, {"b", b.title}};
    json.update(to_json(comparison));
    write_file(command.json, json.dump(2) + "\n");
  }
  if (!command.html.empty()) write_file(command.html, comparison_page(comparison, a.title, b.title));
  if (!command.quiet)
    std::cout << fmt::format("A: {}\nB: {}\n", a.title, b.title) << to_text(comparison, kReportedLayers);
  return kSuccess;
}

}  // namespace espq::cli
