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

// ---------------------------------------------------------------------------------------------- the page
std::string code(std::string_view word) { return fmt::format("`{}`", word); }

template <typename Names>
std::string codes(const Names& names) {
  std::vector<std::string> result;
  result.reserve(std::size(names));
  for (const auto& name : names) result.push_back(code(name));
  return fmt::format("{}", fmt::join(result, ", "));
}

/// A pipe would end the cell of a table.
std::string cell(std::string_view text) {
  std::string result(text);
  for (size_t at = 0; (at = result.find('|', at)) != std::string::npos; at += 2) result.insert(at, 1, '\\');
  return result;
}

/// Chips with the limit, by name where they are not all of them.
std::string chips(const Limit& limit, RuntimeLevel level) {
  std::vector<std::string_view> names;
  for (const Target& target : all_targets())
    if (!limit.holds || limit.holds({target, level})) names.push_back(target.name);
  return names.size() == all_targets().size() ? "all" : codes(names);
}

std::string_view consequence(Refusal::Kind kind) {
  switch (kind) {
    case Refusal::Kind::Form:
      return "wrong results, or the library stops";
    case Refusal::Kind::Unwritable:
      return "no file can say it";
    case Refusal::Kind::Kernel:
      return "needs a kernel of the application";
  }
  return "";
}

void print_section(const OperatorDefinition& row, const Question& question) {
  std::cout << fmt::format("\n### {}\nKernels: {}.", row.name, fmt::join(question.widths(row), ", "));
  std::vector<std::string_view> stated;
  for (const AttributeSpec& attribute : row.attributes)
    if (attribute.stated) stated.push_back(attribute.name);
  if (!stated.empty()) std::cout << fmt::format(" Always in a file: {}.", codes(stated));
  if (row.chip.needs_all_outputs) std::cout << " Files name all of its outputs.";
  if (!row.chip.note.empty()) std::cout << fmt::format("\n\nNote: {}.", row.chip.note);
  std::cout << "\n";
  if (row.chip.limits.empty()) return;
  std::cout << "\n| It does not take | Otherwise | Chips | Remedy |\n|---|---|---|---|\n";
  for (const Limit& limit : row.chip.limits)
    std::cout << fmt::format("| {} | {} | {} | {} |\n", cell(limit.what), consequence(limit.kind),
                             chips(limit, question.level), cell(limit.remedy));
}

std::string_view without_kernel(const OperatorDefinition& row) {
  if (!row.chip.note.empty()) return row.chip.note;
  if (row.quantization.table_int8 && row.quantization.table_int16) return "as a lookup table, at 8 and at 16 bits";
  if (row.quantization.table_int8) return "as a lookup table, at 8 bits";
  return "only where a rewrite takes its place, or the application registers a kernel";
}

void print_page(const Question& question) {
  std::cout
      << "# Operators\n\n"
         "<!-- Written by `espq ops --markdown`; a test compares the two. -->\n\n"
      << fmt::format(
             "What {} makes of each operator, compared with what ONNX means by it: the widths of its kernels, the\n"
             "forms that it reads otherwise, and the attributes for which it has no default or another one (files\n"
             "that espq writes always have them). Where a form is not taken, espq rewrites the operation if that "
             "is\nexact, and refuses the network otherwise. [Runtime levels](runtime_levels.md) says what is known "
             "of other\nversions of the library.\n\n## With a kernel\n",
             library_name(question.level));
  for (const OperatorDefinition& row : operators().all())
    if (row.chip.registered()) print_section(row, question);
  std::cout << "\n## Without a kernel\n\n| Operator | On the chip |\n|---|---|\n";
  for (const OperatorDefinition& row : operators().all())
    if (!row.chip.registered()) std::cout << fmt::format("| {} | {} |\n", row.name, cell(without_kernel(row)));
}

}  // namespace

int ops(const OpsCommand& command) {
  const Question question{command.target.empty() ? nullptr : &find_target(command.target),
                          parse_enum<RuntimeLevel>(command.runtime_level, "--runtime-level")};
  if (command.markdown) {
    print_page(question);
    return kSuccess;
  }
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
