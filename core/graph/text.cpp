#include <ATen/core/Tensor.h>
#include <c10/util/StringUtil.h>

#include "core/graph/graph.h"
#include "core/support/error.h"

namespace espq {
namespace {

template <typename T>
std::string joined(const std::vector<T>& values, std::string_view separator = ", ") {
  return fmt::format("{}", fmt::join(values, separator));
}

struct AttributeText {
  std::string operator()(int64_t value) const { return std::to_string(value); }
  std::string operator()(float value) const { return fmt::format("{}", value); }
  std::string operator()(const std::string& value) const { return "'" + value + "'"; }
  template <typename T>
  std::string operator()(const std::vector<T>& values) const {
    return "[" + joined(values) + "]";
  }
  std::string operator()(const at::Tensor& value) const {
    return fmt::format("<{} [{}]>", c10::toString(value.scalar_type()), joined(value.sizes().vec()));
  }
};

std::string state_text(SlotState state) {
  switch (state) {
    case SlotState::Float:
      return "float";
    case SlotState::Pending:
      return "pending";
    case SlotState::Derived:
      return "derived";
    case SlotState::Quantizes:
      return "quantizes";
    case SlotState::QuantizesShared:
      return "shared";
    case SlotState::Carries:
      return "carries";
  }
  internal_check(false, "unknown slot state");
  return {};
}

class GraphText {
 public:
  explicit GraphText(const Graph& graph) : graph_(graph) {}

  std::string text() {
    std::string result = heading();
    for (const Operation* operation : graph_.topological_order()) result += line(*operation);
    return result + fmt::format("return {}\n", variables_text(graph_.outputs(), nullptr));
  }

 private:
  std::string heading() {
    constexpr std::string_view kinds[] = {"", "quantized ", "chip "};
    const std::string target = graph_.target() ? fmt::format(" for {}", graph_.target()->name) : "";
    return fmt::format("{}graph '{}'{} ({})\n", kinds[static_cast<int>(graph_.stage())], graph_.name, target,
                       variables_text(graph_.inputs(), nullptr));
  }

  std::string line(const Operation& operation) {
    std::string attributes;
    for (const auto& [key, value] : operation.attributes())
      attributes += (attributes.empty() ? "" : ", ") + key + "=" + std::visit(AttributeText{}, value);
    const bool slots = graph_.stage() == Stage::Quantized && operation.quantized();
    // Operands first: scale groups are numbered in reading order of the data.
    const std::string inputs = variables_text(operation.inputs(), slots ? &operation.input_quant() : nullptr);
    const std::string outputs = variables_text(operation.outputs(), slots ? &operation.output_quant() : nullptr);
    return fmt::format("  {} = {} '{}' ({}) {{{}}}{}\n", outputs, operation.type(), operation.name(), inputs,
                       attributes, facts_text(operation));
  }

  static std::string facts_text(const Operation& operation) {
    const ChipFacts& facts = operation.chip();
    std::string text;
    if (const auto& width = facts.kernels ? facts.kernels : operation.width())
      text += fmt::format(" {}", enum_name(*width));
    if (!facts.function.empty()) text += " of " + facts.function;
    if (facts.table_step) text += fmt::format(" step {}", *facts.table_step);
    if (facts.table) text += " table " + variable_text(facts.table);
    if (facts.gate_exponent) text += fmt::format(" gates @{}", *facts.gate_exponent);
    if (facts.fused_relu) text += *facts.fused_relu ? " relu" : " linear";
    return text;
  }

  static std::string variable_text(const Variable* variable) {
    if (!variable) return "-";
    std::string text = "%" + variable->name();
    if (variable->shape()) text += "[" + joined(*variable->shape(), "x") + "]";
    if (!variable->permutation().empty()) text += "<" + joined(variable->permutation(), "") + ">";
    if (variable->storage())
      text +=
          fmt::format(":{}@{}", c10::toString(variable->storage()->dtype), joined(variable->storage()->exponents, ","));
    return text;
  }

  std::string variables_text(std::span<const Variable* const> variables, const std::vector<SlotQuant>* slots) {
    std::string text;
    for (size_t i = 0; i < variables.size(); ++i) {
      text += (i == 0 ? "" : ", ") + variable_text(variables[i]);
      if (slots && variables[i]) text += slot_text(slots->at(i));
    }
    return text;
  }

  /// "{quantizes 8 bit @-5 #2}": state, width, exponents, number of the scale group.
  std::string slot_text(const SlotQuant& slot) {
    if (slot.is_float()) return "";
    const std::vector<int>& exponents = slot_exponents(graph_, slot);
    std::string text = fmt::format("{{{} {} bit", state_text(slot.state), slot.bits);
    if (slot.channel_axis >= 0) text += fmt::format(" axis {}", slot.channel_axis);
    if (!exponents.empty()) text += " @" + joined(exponents, ",");
    const auto number = groups_.try_emplace(graph_.scales().root(slot.scale), groups_.size() + 1).first->second;
    return text + fmt::format(" #{}}}", number);
  }

  const Graph& graph_;
  std::unordered_map<ScaleId, size_t> groups_;
};

}  // namespace

std::string to_text(const Graph& graph) { return GraphText(graph).text(); }

}  // namespace espq
