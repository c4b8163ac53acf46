#include "passes/quantize/align_scales.h"

#include <cmath>

#include "core/ops/operator.h"
#include "core/support/error.h"
#include "passes/quantize/joint_exponent.h"
#include "passes/quantize/observer.h"
#include "passes/quantize/slots.h"

namespace espq {

const std::vector<std::pair<AlignMethod, std::string_view>> EnumNames<AlignMethod>::values = {
    {AlignMethod::None, "none"},
    {AlignMethod::Output, "output"},
    {AlignMethod::Input, "input"},
    {AlignMethod::Large, "large"},
    {AlignMethod::Best, "best"}};

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
  check_method(options.elementwise, "elementwise", {None, Output, Large, Best});
  check_method(options.concat, "concat", {None, Output, Large, Best});
  check_method(options.pooling, "pooling", {None, Output, Input});
  check_method(options.resize, "resize", {None, Output, Input});
  check_method(options.comparison, "comparison", {None, Large});
  user_check(options.batches > 0, "alignment.batches: {} batches cannot be looked at; use at least 1", options.batches);
}

class Aligner {
 public:
  Aligner(Graph& graph, const Dataset& data, const AlignOptions& options, const Quirks& quirks)
      : graph_(graph), data_(data), options_(options), quirks_(quirks), slots_(graph) {}

  PassReport run() {
    std::vector<Operation*> order = quirks_.move_every_producer ? graph_.operations() : graph_.topological_order();
    std::erase_if(order, [](const Operation* operation) { return !operation->quantized(); });
    try_exponents(order);
    for (Operation* operation : order) {
      changed_ = false;
      aligned_.clear();
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
        // What is computed between elements reaches less far than they do: on its grid they would be clipped. The
        // kernel converts from one grid to the other by itself.
        if (!quirks_.passed_codes_unaligned && operation.string_attribute("mode", "nearest") != "nearest") break;
        return options_.resize;
      case AlignmentClass::Comparison:
        return options_.comparison;
      case AlignmentClass::Recurrent:
      case AlignmentClass::None:
        break;
    }
    return AlignMethod::None;
  }

  void try_exponents(const std::vector<Operation*>& order) {
    std::vector<const Operation*> operations;
    for (const Operation* operation : order)
      if (method_of(*operation) == AlignMethod::Best && has_exponents(graph_, operation->output_quant()[0]))
        operations.push_back(operation);
    errors_ = joint_errors(graph_, operations, data_, options_.batches, [&](const Operation& operation, size_t slot) {
      const Operation* producer = operation.input(slot)->producer();
      return producer && producer->quantized() && !may_move(*producer, operation.input(slot)->producer_slot());
    });
  }

  void follow(SlotQuant& slot, SlotQuant& master) { changed_ |= slots_.follow(slot, master); }

  void operand_follows(Operation& operation, size_t slot, SlotQuant& master) {
    follow(operation.edit_input_quant(slot), master);
    aligned_.push_back(slot);
  }

  /// The slot whose scale the producers should take, if any.
  SlotQuant* align(Operation& operation) {
    if (!quirks_.passed_codes_unaligned && passes_codes(operation)) return align_passed_codes(operation);
    if (!quirks_.scales_ignore_width && cuts_another_width(operation)) {
      operand_follows(operation, 0, operation.edit_output_quant(0));
      return nullptr;
    }
    if (definition_of(operation).quantization.alignment == AlignmentClass::Recurrent)
      return options_.recurrent ? align_hidden_state(operation) : nullptr;
    const AlignMethod method = method_of(operation);
    if (method == AlignMethod::None) return nullptr;
    if (method == AlignMethod::Large) return align_to_large(operation);
    if (method == AlignMethod::Output || method == AlignMethod::Best) {
      SlotQuant& master = operation.edit_output_quant(0);
      for (size_t i = 0; i < operation.input_quant().size(); ++i)
        if (!operation.input_quant()[i].is_float()) operand_follows(operation, i, master);
      if (method == AlignMethod::Best) take_best_exponent(operation, master);
      return &master;
    }
    for (size_t i = 0; i < operation.output_quant().size(); ++i)
      if (!operation.output_quant()[i].is_float())
        follow(operation.edit_output_quant(i), operation.edit_input_quant(0));
    return nullptr;  // the producer's scale is the one that stays
  }

  void take_best_exponent(const Operation& operation, const SlotQuant& master) {
    const auto found = errors_.find(&operation);
    if (found == errors_.end()) return;
    const int own = slot_exponents(graph_, master)[0];
    std::pair<int, double> best = {own, found->second.at(own)};
    // Of equals the coarsest: where the result says nothing (x - x), the operands keep what they hold.
    for (const auto& [exponent, error] : found->second)
      if (error <= best.second) best = {exponent, error};
    if (best.first == own) return;
    graph_.scales().set_exponents(master.scale, {best.first});
    report_.count("exponent with room for the operands", operation.name());
    changed_ = true;
  }

  SlotQuant* align_to_large(Operation& operation) {
    std::vector<size_t> operands;
    double limit = 0;  // magnitude of the most negative value that any operand can hold
    for (size_t i = 0; i < operation.input_quant().size(); ++i) {
      SlotQuant& operand = operation.edit_input_quant(i);
      if (operand.is_float()) continue;
      internal_check(has_exponents(graph_, operand), "alignment before calibration of " + operation.name());
      operands.push_back(i);
      limit = std::max(limit, std::ldexp(-quant_min(operand.bits), slot_exponents(graph_, operand)[0]));
    }
    if (operands.empty()) return nullptr;
    SlotQuant& master = operation.edit_input_quant(operands.front());
    // The symmetric rule wants room for +limit as well, which is one step more than the grid has.
    const int exponent = quirks_.large_doubles ? exponent_of_range(-limit, limit, master.bits, RangeRule::Symmetric)
                                               : static_cast<int>(std::log2(limit)) - (master.bits - 1);
    graph_.scales().detach(master.scale);
    changed_ |= slots_.round_to(master, {exponent});
    aligned_ = {operands.front()};
    for (size_t i = 1; i < operands.size(); ++i) operand_follows(operation, operands[i], master);
    return &master;
  }

  /// A Relu or Clip that reads another width needs no more room for its operand than for its result: what lies beyond
  /// is cut in any case.
  bool cuts_another_width(const Operation& operation) const {
    if (!definition_of(operation).quantization.fused_activation) return false;
    const SlotQuant &operand = operation.input_quant()[0], &result = operation.output_quant()[0];
    const Operation* producer = operation.input(0)->producer();
    if (!producer || !producer->quantized() || !has_exponents(graph_, operand) || !has_exponents(graph_, result))
      return false;
    const SlotQuant& written = producer->output_quant()[operation.input(0)->producer_slot()];
    return !written.is_float() && written.bits != operand.bits;
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
    aligned_ = {0};
    return changed_ && &master != slots[0] ? &master : nullptr;  // else the producer's scale is the one that stays
  }

  /// Last hidden state and initial hidden state are the same register as output 0.
  SlotQuant* align_hidden_state(Operation& operation) {
    constexpr size_t kLastHidden = 1, kInitialHidden = 5;
    SlotQuant& master = operation.edit_output_quant(0);
    if (operation.output_quant().size() > kLastHidden && !operation.output_quant()[kLastHidden].is_float())
      follow(operation.edit_output_quant(kLastHidden), master);
    if (operation.input_quant().size() > kInitialHidden && !operation.input_quant()[kInitialHidden].is_float())
      operand_follows(operation, kInitialHidden, master);
    return &master;
  }

  /// Whether that result of the producer could take the scale of what reads it without harm to others.
  bool may_move(const Operation& producer, int slot) const {
    // The last state of a cell, and what it remembers, have the exponents of its registers.
    const bool cell = definition_of(producer).quantization.alignment == AlignmentClass::Recurrent;
    if (cell && slot > 0 && !quirks_.move_every_producer) return false;
    if (options_.force_overlap) return true;
    if (definition_of(producer).quantization.passive || graph_.downstream(producer).size() != 1) return false;
    if (quirks_.move_every_producer) return true;
    const bool leaves = std::any_of(producer.outputs().begin(), producer.outputs().end(),
                                    [&](const Variable* output) { return graph_.is_output(output); });
    return !leaves && !passes_codes(producer) && !is_held_by_operand(source_of(producer));
  }

  /// Its result has the exponent of its operand, which would not move along.
  bool is_held_by_operand(const Operation& operation) const {
    if (!operation.quantized() || !passes_codes(operation)) return false;
    const ScaleForest& scales = graph_.scales();
    return scales.root(operation.input_quant()[0].scale) != scales.root(operation.output_quant()[0].scale);
  }

  /// What makes the result, behind the Relu or Clip that shares its scale with it.
  const Operation& source_of(const Operation& producer) const {
    const Operation* source = &producer;
    while (definition_of(*source).quantization.fused_activation && source->quantized() &&
           source->input_quant()[0].state == SlotState::Carries && source->input(0)->producer() &&
           source->input(0)->producer()->quantized())
      source = source->input(0)->producer();
    return *source;
  }

  /// Operands of a sum can be larger than it, and states of a cell come back: neither may get a finer scale than it
  /// has.
  bool bears(const Operation& producer, const SlotQuant& output, const SlotQuant& master) const {
    if (quirks_.move_every_producer || !has_exponents(graph_, output) || !has_exponents(graph_, master)) return true;
    if (slot_exponents(graph_, output)[0] <= slot_exponents(graph_, master)[0]) return true;
    const AlignmentClass alignment = definition_of(source_of(producer)).quantization.alignment;
    return alignment != AlignmentClass::Elementwise && alignment != AlignmentClass::Recurrent;
  }

  /// True when an aligned operand of the operation reads the producer's output.
  bool feeds(const Variable& output, const Operation& operation) const {
    return std::any_of(output.uses().begin(), output.uses().end(), [&](const ConstUse& use) {
      const auto slot = static_cast<size_t>(use.slot);
      return use.operation == &operation &&
             (quirks_.move_every_producer || std::find(aligned_.begin(), aligned_.end(), slot) != aligned_.end());
    });
  }

  /// A producer that only this operation reads can give its result on the common grid right away.
  void move_producers(Operation& operation, SlotQuant& master) {
    for (Operation* producer : graph_.upstream(operation)) {
      if (!producer->quantized()) continue;
      for (size_t i = 0; i < producer->outputs().size(); ++i) {
        if (!may_move(*producer, static_cast<int>(i))) continue;
        SlotQuant& output = producer->edit_output_quant(i);
        if (!feeds(*std::as_const(*producer).output(i), operation) || &output == &master) continue;
        if (output.is_float() && !quirks_.move_float_producers) continue;
        if (output.bits != master.bits && !quirks_.scales_ignore_width) continue;
        if (!bears(*producer, output, master)) continue;
        report_.count("producer takes the common scale", producer->name(), slots_.follow(output, master));
      }
    }
  }

  Graph& graph_;
  const Dataset& data_;
  const AlignOptions& options_;
  const Quirks& quirks_;
  SlotTable slots_;
  std::map<const Operation*, ErrorByExponent> errors_;  ///< of operations with a choice
  bool changed_ = false;                                ///< by the operation that is being aligned
  std::vector<size_t> aligned_;                         ///< its operands on the common scale
  PassReport report_{"align_scales"};
};

}  // namespace

PassReport align_scales(Graph& graph, const Dataset& data, const AlignOptions& options, const Quirks& quirks) {
  check(options);
  return Aligner(graph, data, options, quirks).run();
}

}  // namespace espq
