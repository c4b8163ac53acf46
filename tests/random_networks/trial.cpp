#include "tests/random_networks/trial.h"

#include <ATen/ATen.h>

#include "core/exec/float_layout.h"
#include "core/support/error.h"
#include "core/support/first_line.h"
#include "export/conversion/verify.h"
#include "export/espdl/reader.h"
#include "passes/legalize/cut_arg_max.h"
#include "passes/pipeline/check.h"
#include "passes/pipeline/write.h"

namespace espq::random_networks {
namespace {

/// Roundings inside of an operation, and of the operations that it is rewritten to, add to those at its ends; scales
/// that neighbours share are coarser than the range of one of them. Four times the expectation is two bits.
constexpr double kMargin = 4;
/// What float kernels may differ by, compared with the output's size, and how far the finest grid (2^-26) reaches at 8
/// bits: the size of what is made of an exact zero and a float's rounding.
constexpr double kFloatNoise = 1e-5, kFloatFloor = 2e-6;

double root_mean_square(const at::Tensor& values) {
  return values.numel() ? std::sqrt(values.to(at::kDouble).square().mean().item<double>()) : 0;
}

void require_same_verdict(const Graph& network, const Recipe& recipe, bool refused, const std::string& message) {
  const bool announced = cannot_run(check_network(network, recipe));
  if (refused && message.find("cannot run on") == std::string::npos) return;
  internal_check(announced == refused, refused ? "check_network() lets through what convert() refuses: " + message
                                               : "check_network() refuses what convert() lets through");
}

/// The file's recorded outputs, once everything that a file has to pass is passed.
TestValues proven_answers(const std::filesystem::path& file, const Target& target) {
  const EspdlModel model = read_espdl_file(file);
  for (const CheckedOperation& operation : check_file(from_model(model, target), {target}))
    internal_check(operation.verdict != Verdict::CannotRun,
                   fmt::format("the file holds {} '{}', which cannot run: {}", operation.type, operation.name,
                               operation.refusals.empty() ? "" : operation.refusals[0].why));
  for (const OutputCheck& check : verify_model(model, target))
    internal_check(check.equal(), fmt::format("output '{}': {} of {} elements are not what was recorded, by up to {}",
                                              check.name, check.different, check.elements, check.largest_difference));
  return test_values(model);
}

void compare(Trial& trial, const RandomNetwork& network, const Conversion& made, const TestValues& answers) {
  Graph graph = network.graph();
  cut_arg_max(graph);  // the application searches
  const Tensors inputs = network.calibration.inputs(graph, 0);
  const Tensors exact = Executor(graph, Precision::Float).run(inputs);
  const std::vector<double> expected = expected_noise(graph, network.calibration, network.recipe, inputs);
  internal_check(answers.outputs.size() == exact.size(), "the file has as many outputs as the network");
  for (size_t i = 0; i < exact.size(); ++i) {
    OutputResult result{.name = graph.outputs()[i]->name(), .computed = exact[i]};
    const auto& [name, recorded] = answers.outputs[i];
    const Variable* output = made.chip.find_variable(name);
    internal_check(output == made.chip.outputs()[i], "recorded outputs are in the order of the graph");
    result.board = from_chip_layout(*output, real_values(*output, recorded));
    internal_check(result.board.numel() == exact[i].numel(),
                   fmt::format("output '{}' has {} elements, not {}", name, result.board.numel(), exact[i].numel()));
    result.signal = root_mean_square(exact[i]);
    result.noise = root_mean_square(result.board.reshape(exact[i].sizes()).to(at::kDouble) - exact[i].to(at::kDouble));
    result.expected = expected[i];
    trial.outputs.push_back(std::move(result));
  }
}

}  // namespace

bool OutputResult::is_outlier() const { return !(noise <= kMargin * expected + kFloatNoise * signal + kFloatFloor); }

const OutputResult* Trial::worst() const {
  const OutputResult* found = nullptr;
  for (const OutputResult& output : outputs)
    if (!found || !(output.ratio() - output.expected_ratio() >= found->ratio() - found->expected_ratio()))
      found = &output;
  return found;
}

Trial try_network(const RandomNetwork& network, const std::filesystem::path& file) {
  Trial trial;
  // Measured on data that the scales were chosen for: how a network takes what it never saw is not the question here.
  try {
    const Graph graph = network.graph();
    const Tensors inputs = network.calibration.inputs(graph, 0);
    for (size_t i = 0; i < inputs.size(); ++i) trial.inputs[graph.inputs()[i]->name()] = inputs[i];
    std::optional<Conversion> made;
    try {
      made = convert(graph, network.calibration, network.recipe);
    } catch (const UserError& error) {
      require_same_verdict(graph, network.recipe, true, error.what());
      throw;
    }
    trial.chip = to_text(made->chip);
    require_same_verdict(graph, network.recipe, false, "");
    ExportOptions options;
    options.companions = false;
    export_espdl(*made, trial.inputs, file, options);
    const TestValues answers = proven_answers(file, find_target(network.recipe.target));
    compare(trial, network, *made, answers);
    trial.end = Trial::End::Survived;
  } catch (const UserError& error) {
    trial.end = Trial::End::Refused;
    trial.message = error.what();
  } catch (const std::exception& error) {
    trial.message = first_line(error);
  }
  return trial;
}

std::string complaint(const RandomNetwork& network, const Trial& trial) {
  if (trial.end == Trial::End::Broken) return "neither refused nor survived: " + trial.message;
  if (trial.end == Trial::End::Refused) {
    if (trial.message.find('\n') != std::string::npos) return "refused in several lines: " + trial.message;
    const bool named = std::any_of(network.model.nodes.begin(), network.model.nodes.end(), [&](const auto& node) {
      return trial.message.find(node.name) != std::string::npos;
    });
    return named ? "" : "refused without the name of an operation: " + trial.message;
  }
  for (const OutputResult& output : trial.outputs)
    if (output.is_outlier())
      return fmt::format("output '{}': {:.1f} dB, {:.1f} dB expected", output.name, output.ratio(),
                         output.expected_ratio());
  return "";
}

}  // namespace espq::random_networks
