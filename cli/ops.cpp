#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/verbs.h"
#include "core/ops/operator.h"
#include "core/quant/target.h"

namespace espq::cli {
namespace {

/// What is asked for: the operators of one chip, or of all chips.
struct Question {
  const Target* target = nullptr;
  RuntimeLevel level = RuntimeLevel::V3_3_9;

  std::vector<std::string_view> widths(const OperatorDefinition& definition) const {
    std::vector<std::string_view> result;
    for (const auto& [width, name] : EnumNames<Width>::values)
      if (has_kernel(definition, level, width)) result.push_back(name);
    return result;
  }

  /// What the kernels do not take on that chip; on any, without a target.
  std::vector<std::string_view> limits(const OperatorDefinition& definition) const {
    std::vector<std::string_view> result;
    for (const Limit& limit : definition.chip.limits)
      if (!target || !limit.holds || limit.holds({*target, level})) result.push_back(limit.what);
    return result;
  }
};

nlohmann::ordered_json to_json(const OperatorDefinition& definition, const Question& question) {
  std::vector<std::string_view> operands, attributes;
  for (const OperandSpec& operand : definition.inputs) operands.push_back(operand.name);
  for (const AttributeSpec& attribute : definition.attributes) attributes.push_back(attribute.name);
  return {{"name", definition.name},
          {"inputs", operands},
          {"attributes", attributes},
          {"quantizable", definition.quantization.quantizable},
          {"board_exact", definition.chip.board != nullptr},
          {"chip", definition.chip.registered()},
          {"widths", question.widths(definition)},
          {"limits", question.limits(definition)},
          {"note", definition.chip.note}};
}

/// "not: ..." lists what the kernels do not take; then what is worth knowing.
std::string remarks(const OperatorDefinition& definition, const Question& question) {
  const auto limits = question.limits(definition);
  std::string result = limits.empty() ? "" : fmt::format("not: {}", fmt::join(limits, "; "));
  if (!definition.chip.note.empty()) result += fmt::format("{}{}", result.empty() ? "" : ". ", definition.chip.note);
  return result;
}

void print_rows(const std::vector<const OperatorDefinition*>& rows, const Question& question) {
  constexpr auto line = "{:<22} {:<10} {:<6} {:<24} {}\n";
  const auto mark = [](bool set) { return set ? "yes" : "-"; };
  std::cout << fmt::format(line, "operator", "quantized", "board", "kernels", "limits");
  for (const OperatorDefinition* row : rows)
    std::cout << fmt::format(line, row->name, mark(row->quantization.quantizable), mark(row->chip.board != nullptr),
                             row->chip.registered() ? fmt::format("{}", fmt::join(question.widths(*row), " ")) : "-",
                             remarks(*row, question));
  std::cout << rows.size() << " operators\n";
}

}  // namespace

int ops(const OpsCommand& command) {
  const Question question{command.target.empty() ? nullptr : &find_target(command.target),
                          parse_enum<RuntimeLevel>(command.runtime_level, "--runtime-level")};
  std::vector<const OperatorDefinition*> rows;
  for (const OperatorDefinition& definition : operators().all())
    if (!question.target || definition.chip.registered()) rows.push_back(&definition);
  if (command.json) {
    auto list = nlohmann::ordered_json::array();
    for (const OperatorDefinition* row : rows) list.push_back(to_json(*row, question));
    std::cout << list.dump(2) << "\n";
    return kSuccess;
  }
  if (const Target* target = question.target)
    std::cout << fmt::format(
        "{}, {}: rounds {}, weights per {}, bias {} bits (int8), {} bits (int16)\n", target->name,
        library_name(question.level), target->rounding == Rounding::HalfEven ? "half to even" : "half up",
        target->per_channel_weights ? "channel" : "tensor", target->bias_bits_int8, target->bias_bits_int16);
  print_rows(rows, question);
  return kSuccess;
}

}  // namespace espq::cli
