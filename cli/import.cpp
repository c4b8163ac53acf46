#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/model_files.h"
#include "cli/verbs.h"
#include "core/support/error.h"
#include "passes/pipeline/convert.h"

namespace espq::cli {
namespace {

std::string shape_text(const Variable* variable) {
  return variable->shape() ? fmt::format("{}", fmt::join(*variable->shape(), "x")) : "?";
}

void print_graph(const Graph& graph) {
  for (const Variable* input : graph.inputs())
    std::cout << fmt::format("input  {} {} {}\n", input->name(), c10::toString(input->dtype()), shape_text(input));
  for (const Operation* operation : graph.topological_order())
    std::cout << fmt::format("{:<18} {:<40} {}\n", operation->type(), operation->name(),
                             shape_text(operation->output()));
  for (const Variable* output : graph.outputs())
    std::cout << fmt::format("output {} {} {}\n", output->name(), c10::toString(output->dtype()), shape_text(output));
  std::cout << graph.operation_count() << " operations\n";
}

void print_agreement(const TorchAgreement& agreement) {
  size_t agreeing = 0;
  double largest = 0;
  for (const OperatorAgreement& entry : agreement.operators) {
    agreeing += entry.agrees();
    largest = std::max(largest, entry.largest_error);
    if (!entry.agrees())
      std::cout << fmt::format("DIFFERENT {} ({}{}{}): error {:.2e}, tolerance {:.0e}\n", entry.target,
                               entry.module_path, entry.module_path.empty() ? "" : ", ", entry.source,
                               entry.largest_error, entry.tolerance);
  }
  std::cout << fmt::format("{} of {} operators agree with LibTorch, largest error {:.2e}\n", agreeing,
                           agreement.operators.size(), largest);
  for (const OutputAgreement& entry : agreement.outputs)
    std::cout << fmt::format("output {}: error {:.2e}, tolerance {:.0e}: {}\n", entry.name, entry.largest_error,
                             entry.tolerance, entry.agrees() ? "agrees" : "DIFFERENT");
}

nlohmann::ordered_json to_json(const Graph& graph) {
  const auto values = [](std::span<const Variable* const> variables) {
    auto list = nlohmann::ordered_json::array();
    for (const Variable* variable : variables)
      list.push_back({{"name", variable->name()},
                      {"type", c10::toString(variable->dtype())},
                      {"shape", variable->shape().value_or(Shape{})}});
    return list;
  };
  auto operations = nlohmann::ordered_json::array();
  for (const Operation* operation : graph.topological_order()) {
    std::vector<std::string> inputs, outputs;
    for (const Variable* input : operation->inputs()) inputs.push_back(input ? input->name() : "");
    for (const Variable* output : operation->outputs()) outputs.push_back(output->name());
    operations.push_back({{"name", operation->name()},
                          {"type", operation->type()},
                          {"inputs", inputs},
                          {"outputs", outputs},
                          {"shape", operation->output()->shape().value_or(Shape{})}});
  }
  return {{"inputs", values(graph.inputs())}, {"outputs", values(graph.outputs())}, {"operations", operations}};
}

nlohmann::ordered_json to_json(const TorchAgreement& agreement) {
  auto operators = nlohmann::ordered_json::array(), outputs = nlohmann::ordered_json::array();
  for (const OperatorAgreement& entry : agreement.operators)
    operators.push_back({{"operator", entry.target},
                         {"module", entry.module_path},
                         {"source", entry.source},
                         {"operations", entry.operations},
                         {"error", entry.largest_error},
                         {"tolerance", entry.tolerance},
                         {"agrees", entry.agrees()}});
  for (const OutputAgreement& entry : agreement.outputs)
    outputs.push_back({{"name", entry.name},
                       {"error", entry.largest_error},
                       {"tolerance", entry.tolerance},
                       {"agrees", entry.agrees()}});
  return {{"agrees", agreement.agrees()}, {"outputs", outputs}, {"operators", operators}};
}

}  // namespace

int import(const ImportCommand& command) {
  const Recipe recipe = choose_recipe(command.recipe);
  const Dataset::Batch example = read_inputs(command.inputs);
  CheckedImport result;
  if (command.check) {
    user_check(command.model.extension() != ".onnx", "{}: --check is for .pt and .pt2 files", command.model.string());
    result = import_torch_checked(command.model, torch_options(command.input_shapes, example));
  } else {
    result.graph = import_float_model(command.model, command.input_shapes, example);
  }
  const Graph shown = command.as_imported ? std::move(result.graph) : prepare(result.graph, recipe);
  if (command.json) {
    nlohmann::ordered_json report = to_json(shown);
    if (command.check) report["check"] = to_json(result.agreement);
    std::cout << report.dump(2) << "\n";
  } else {
    print_graph(shown);
    if (command.check) print_agreement(result.agreement);
  }
  return result.agreement.agrees() ? kSuccess : kFailure;
}

}  // namespace espq::cli
