#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/verbs.h"
#include "core/ops/operator.h"
#include "core/quant/target.h"

namespace espq::cli {
namespace {

nlohmann::ordered_json to_json(const OperatorDefinition& definition) {
  nlohmann::ordered_json widths = nlohmann::ordered_json::array();
  if (definition.chip.int8) widths.push_back("int8");
  if (definition.chip.int16) widths.push_back("int16");
  if (definition.chip.float32) widths.push_back("float32");
  std::vector<std::string_view> operands, attributes;
  for (const OperandSpec& operand : definition.inputs) operands.push_back(operand.name);
  for (const AttributeSpec& attribute : definition.attributes) attributes.push_back(attribute.name);
  return {{"name", definition.name},
          {"inputs", operands},
          {"attributes", attributes},
          {"quantizable", definition.quantization.quantizable},
          {"board_exact", definition.board != nullptr},
          {"chip", definition.chip.registered},
          {"widths", widths},
          {"max_rank", definition.chip.max_rank},
          {"note", definition.chip.note}};
}

void print_table(const std::vector<const OperatorDefinition*>& rows) {
  const auto mark = [](bool set) { return set ? "yes" : "-"; };
  std::cout << fmt::format("{:<26} {:<10} {:<6} {:<5} {:<6} {:<6} {:<5} {}\n", "operator", "quantized", "board", "int8",
                           "int16", "float", "rank", "note");
  for (const OperatorDefinition* row : rows) {
    const ChipSupport& chip = row->chip;
    std::cout << fmt::format("{:<26} {:<10} {:<6} {:<5} {:<6} {:<6} {:<5} {}\n", row->name,
                             mark(row->quantization.quantizable), mark(row->board != nullptr), mark(chip.int8),
                             mark(chip.int16), mark(chip.float32),
                             chip.registered ? std::to_string(chip.max_rank) : "-", chip.note);
  }
  std::cout << rows.size() << " operators\n";
}

}  // namespace

int ops(const OpsCommand& command) {
  // Every chip runs the same operators; what differs (rounding, lanes) is in the table of targets.
  const Target* target = command.target.empty() ? nullptr : &find_target(command.target);
  std::vector<const OperatorDefinition*> rows;
  for (const OperatorDefinition& definition : operators().all()) {
    if (!target || definition.chip.registered) rows.push_back(&definition);
  }
  if (command.json) {
    auto list = nlohmann::ordered_json::array();
    for (const OperatorDefinition* row : rows) list.push_back(to_json(*row));
    std::cout << list.dump(2) << "\n";
    return kSuccess;
  }
  if (target) {
    std::cout << fmt::format("{}: rounds {}, weights per {}, bias {} bits (int8), {} bits (int16)\n", target->name,
                             target->rounding == Rounding::HalfEven ? "half to even" : "half up",
                             target->per_channel_weights ? "channel" : "tensor", target->bias_bits_int8,
                             target->bias_bits_int16);
  }
  print_table(rows);
  return kSuccess;
}

}  // namespace espq::cli
