#include "passes/pipeline/check.h"

#include <algorithm>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>

#include "cli/model_files.h"
#include "cli/verbs.h"
#include "export/espdl/convert.h"

namespace espq::cli {
namespace {

struct Checked {
  std::vector<CheckedOperation> operations;
  std::string target;
  RuntimeLevel level = RuntimeLevel::V3_3_9;
};

Checked check_model(const CheckCommand& command) {
  if (is_float_model(command.model)) {
    Recipe recipe = choose_recipe(command.recipe);
    if (!command.target.empty()) recipe.target = command.target;
    if (!command.runtime_level.empty())
      recipe.lowering.runtime_level = parse_enum<RuntimeLevel>(command.runtime_level, "--runtime-level");
    if (command.bits) recipe.widths.bits = *command.bits;
    if (command.allow_missing_kernels) recipe.widths.check_kernels = false;
    return {check_network(import_float_model(command.model, command.input_shapes), recipe), recipe.target,
            recipe.lowering.runtime_level};
  }
  const EspdlModel model = read_espdl_file(command.model, read_options(command.access));
  const Target& target = choose_target(model, command.target);
  const RuntimeLevel level = command.runtime_level.empty()
                                 ? RuntimeLevel::V3_3_9
                                 : parse_enum<RuntimeLevel>(command.runtime_level, "--runtime-level");
  return {check_file(from_model(model, target), {target, level}), std::string(target.name), level};
}

std::string details(const CheckedOperation& operation) {
  std::vector<std::string> lines;
  for (const Refusal& refusal : operation.refusals) lines.push_back(fmt::format("{}; {}", refusal.why, refusal.remedy));
  return fmt::format("{}", fmt::join(lines.empty() ? operation.rewrites : lines, ". "));
}

nlohmann::ordered_json to_json(const CheckedOperation& operation) {
  auto refusals = nlohmann::ordered_json::array();
  for (const Refusal& refusal : operation.refusals)
    refusals.push_back({{"why", refusal.why}, {"remedy", refusal.remedy}});
  return {{"name", operation.name},
          {"type", operation.type},
          {"width", enum_name(operation.width)},
          {"verdict", enum_name(operation.verdict)},
          {"rewrites", operation.rewrites},
          {"refusals", refusals}};
}

void print(const Checked& checked) {
  size_t widest = 4;
  for (const CheckedOperation& operation : checked.operations) widest = std::max(widest, operation.name.size());
  std::map<Verdict, size_t> counts;
  for (const CheckedOperation& operation : checked.operations) {
    ++counts[operation.verdict];
    const std::string line =
        fmt::format("{:<18} {:<{}} {:<5} {:<18} {}", operation.type, operation.name, std::min<size_t>(widest, 60),
                    enum_name(operation.width), enum_name(operation.verdict), details(operation));
    std::cout << line.substr(0, line.find_last_not_of(' ') + 1) << "\n";
  }
  std::vector<std::string> parts;
  parts.reserve(counts.size());
  for (const auto& [verdict, count] : counts) parts.push_back(fmt::format("{} {}", count, enum_name(verdict)));
  std::cout << fmt::format(
      "{} on {}, {}: {}\n",
      checked.operations.size() == 1 ? "1 operation" : fmt::format("{} operations", checked.operations.size()),
      checked.target, library_name(checked.level), fmt::join(parts, ", "));
}

}  // namespace

int check(const CheckCommand& command) {
  const Checked checked = check_model(command);
  if (command.json) {
    auto list = nlohmann::ordered_json::array();
    for (const CheckedOperation& operation : checked.operations) list.push_back(to_json(operation));
    std::cout << nlohmann::ordered_json{{"target", checked.target},
                                        {"runtime_level", enum_name(checked.level)},
                                        {"operations", list}}
                     .dump(2)
              << "\n";
  } else {
    print(checked);
  }
  return cannot_run(checked.operations) ? kFailure : kSuccess;
}

}  // namespace espq::cli
