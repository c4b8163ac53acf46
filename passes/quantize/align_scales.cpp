#include "passes/quantize/align_scales.h"

#include <cmath>

#include "core/ops/operator.h"
#include "core/support/error.h"
#include "passes/quantize/observer.h"
#include "passes/quantize/slots.h"

namespace espq {

const std::vector<std::pair<AlignMethod, std::string_view>> EnumNames<AlignMethod>::values = {
    {AlignMethod::None, "none"},
    {AlignMethod::Output, "output"},
    {AlignMethod::Input, "input"},
    {AlignMethod::Large, "large"}};

namespace {

void check_method(AlignMethod method, std::string_view field, std::initializer_list<AlignMethod> allowed) {
  std::vector<std::string_view> names;
  for (AlignMethod candidate : allowed) {
    if (method == candidate) return;
    names.push_back(enum_name(candidate));
  }
  user_error("alignment.{}: '{}' does not fit; choose one of {}", field, enum_name(method), fmt::join(names, ", "));
}

void check(const AlignOptions& options) {
  using enum AlignMethod;
  check_method(options.elementwise, "elementwise", {None, Output, Large});
  check_method(options.concat, "concat", {None, Output, Large});
  check_method(options.pooling, "pooling", {None, Output, Input});
  check_method(options.resize, "resize", {None, Output, Input});
  check_method(options.comparison, "comparison", {None, Large});
}

class Aligner {
 public:
  Aligner(Graph& graph, const AlignOptions& options, const Quirks& quirks)
      : graph_(graph), options_(options), quirks_(quirks), slots_(graph) {}

  PassReport run() {
    for (Operation* operation : graph_.operations()) {
      if (!operation->quantized()) continue;
      changed_ = false;
      SlotQuant* master = align(*operation);
      report_.count(fmt::format("{} aligned", operation->type()), operation->name(), changed_);
      if (master) move_producers(*operation, *master);
    }
    return report_;
  }

 private:
  AlignMethod method_of(const Operation& operation) const {
    switch (definition_of(operation).quantization.alignment) {
      case AlignmentClass::Elementwise:
        return options_.elementwise;
      case AlignmentClass::Concat:
        return options_.concat;
      case AlignmentClass::Pooling:
        return options_.pooling;
      case AlignmentClass::Resize:
        return options_.resize;
      case AlignmentClass::Comparison:
        return options_.comparison;
      case AlignmentClass::Recurrent:
      case AlignmentClass::None:
        break;
    }
    return AlignMethod::None;
  }

  void follow(SlotQuant& slot, SlotQuant& master) { changed_ |= slots_.follow(slot, master); }

  /// The slot whose scale the producers should take, if any.
  SlotQuant* align(Operation& operation) {
    if (!quirks_.passed_codes_unaligned && passes_codes(operation)) return align_passed_codes(operation);
    if (definition_of(operation).quantization.alignment == AlignmentClass::Recurrent)
      return options_.recurrent ? align_hidden_state(operation) : nullptr;
    const AlignMethod method = method_of(operation);
    if (method == AlignMethod::None) return nullptr;
    if (method == AlignMethod::Large) return align_to_large(operation);
    if (method == AlignMethod::Output) {
      SlotQuant& master = operation.edit_output_quant(0);
      for (size_t i = 0; i < operation.input_quant().size(); ++i)
        if (!operation.input_quant()[i].is_float()) follow(operation.edit_input_quant(i), master);
      return &master;
    }
    for (size_t i = 0; i < operation.output_quant().size(); ++i)
      if (!operation.output_quant()[i].is_float())
        follow(operation.edit_output_quant(i), operation.edit_input_quant(0));
    return nullptr;  // the producer's scale is the one that stays
  }

  SlotQuant* align_to_large(Operation& operation) {
    std::vector<SlotQuant*> operands;
    double limit = 0;  // magnitude of the most negative value that any operand can hold
    for (size_t i = 0; i < operation.input_quant().size(); ++i) {
      SlotQuant& operand = operation.edit_input_quant(i);
      if (operand.is_float()) continue;
      internal_check(has_exponents(graph_, operand), "alignment before calibration of " + operation.name());
      operands.push_back(&operand);
      limit = std::max(limit, std::ldexp(-quant_min(operand.bits), slot_exponents(graph_, operand)[0]));
    }
    if (operands.empty()) return nullptr;
    SlotQuant& master = *operands.front();
    // The symmetric rule wants room for +limit as well, which is one step more than the grid has.
    const int exponent = quirks_.large_doubles ? exponent_of_range(-limit, limit, master.bits, RangeRule::Symmetric)
                                               : static_cast<int>(std::log2(limit)) - (master.bits - 1);
    graph_.scales().detach(master.scale);
    changed_ |= slots_.round_to(master, {exponent});
    for (size_t i = 1; i < operands.size(); ++i) follow(*operands[i], master);
    return &master;
  }

  bool passes_codes(const Operation& operation) const {
    const QuantizationRule& rule = definition_of(operation).quantization;
    return rule.passive || (rule.passes_codes && rule.passes_codes(*graph_.target(), operation.input_quant()[0].bits));
  }

  /// The widest of the grids holds input and outputs.
  SlotQuant* align_passed_codes(Operation& operation) {
    std::vector<SlotQuant*> slots = {&operation.edit_input_quant(0)};
    for (size_t i = 0; i < operation.output_quant().size(); ++i) slots.push_back(&operation.edit_output_quant(i));
    std::erase_if(slots, [&](const SlotQuant* slot) { return slot->is_float() || !has_exponents(graph_, *slot); });
    const auto exponent = [&](const SlotQuant* slot) { return slot_exponents(graph_, *slot)[0]; };
    const auto wider = [&](const SlotQuant* a, const SlotQuant* b) { return exponent(a) < exponent(b); };
    if (slots.size() < 2) return nullptr;
    SlotQuant& master = **std::max_element(slots.begin(), slots.end(), wider);
    for (SlotQuant* slot : slots)
      if (exponent(slot) != exponent(&master)) follow(*slot, master);
    return changed_ && &master != slots[0] ? &master : nullptr;  // else the producer's scale is the one that stays
  }

  /// Last hidden state and initial hidden state are the same register as output 0.
  SlotQuant* align_hidden_state(Operation& operation) {
    constexpr size_t kLastHidden = 1, kInitialHidden = 5;
    SlotQuant& master = operation.edit_output_quant(0);
    if (operation.output_quant().size() > kLastHidden && !operation.output_quant()[kLastHidden].is_float())
      follow(operation.edit_output_quant(kLastHidden), master);
    if (operation.input_quant().size() > kInitialHidden && !operation.input_quant()[kInitialHidden].is_float())
      follow(operation.edit_input_quant(kInitialHidden), master);
    return &master;
  }

  /// A producer that only this operation reads can give its result on the common grid right away.
  void move_producers(Operation& operation, SlotQuant& master) {
    for (Operation* producer : graph_.upstream(operation)) {
      if (!producer->quantized()) continue;
      const bool shared = graph_.downstream(*producer).size() != 1;
      if ((definition_of(*producer).quantization.passive || shared) && !options_.force_overlap) continue;
      for (size_t i = 0; i < producer->outputs().size(); ++i) {
        const auto& uses = producer->output(i)->uses();
        const bool feeds =
            std::any_of(uses.begin(), uses.end(), [&](const Use& use) { return use.operation == &operation; });
        SlotQuant& output = producer->edit_output_quant(i);
        if (!feeds || &output == &master || (output.is_float() && !quirks_.move_float_producers)) continue;
        report_.count("producer takes the common scale", producer->name(), slots_.follow(output, master));
      }
    }
  }

  Graph& graph_;
  const AlignOptions& options_;
  const Quirks& quirks_;
  SlotTable slots_;
  bool changed_ = false;  ///< by the operation that is being aligned
  PassReport report_{"align_scales"};
};

}  // namespace

PassReport align_scales(Graph& graph, const AlignOptions& options, const Quirks& quirks) {
  check(options);
  return Aligner(graph, options, quirks).run();
}

}  // namespace espq
