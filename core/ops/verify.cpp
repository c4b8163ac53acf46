#include <ATen/core/Tensor.h>

#include <algorithm>
#include <set>
#include <unordered_set>

#include "core/ops/operator.h"
#include "core/support/error.h"

namespace espq {
namespace {

std::string title(const Operation& operation) { return fmt::format("{} '{}'", operation.type(), operation.name()); }
std::string title(const Variable& variable) { return fmt::format("tensor '{}'", variable.name()); }

/// `where` is an operation or a variable.
template <class Where, class... Args>
void check(bool condition, const Where& where, fmt::format_string<Args...> what, Args&&... args) {
  if (!condition) internal_check(false, title(where) + ": " + fmt::format(what, std::forward<Args>(args)...));
}

bool is_codes(at::ScalarType dtype) {
  return dtype == at::kChar || dtype == at::kShort || dtype == at::kInt || dtype == at::kLong;
}

class Verifier {
 public:
  explicit Verifier(const Graph& graph) : graph_(graph) {
    for (const Operation* operation : graph.operations()) operations_.insert(operation);
    for (const Variable* variable : graph.variables()) variables_.insert(variable);
    for (const Variable* input : graph.inputs()) inputs_.insert(input);
  }

  void run() {
    if (!is(Stage::Float)) internal_check(graph_.target() != nullptr, "a graph that is quantized names its chip");
    for (const Variable* variable : graph_.variables()) verify_variable(*variable);
    for (const Operation* operation : graph_.operations()) verify_operation(*operation);
    verify_interface();
    as_internal([&] { graph_.topological_order(); });  // no cycle
  }

 private:
  /// What is the user's fault in a file is ours in a graph.
  template <class Check>
  static void as_internal(Check check) {
    try {
      check();
    } catch (const UserError& error) {
      internal_check(false, error.what());
    }
  }

  bool is(Stage stage) const { return graph_.stage() == stage; }

  // --- links
  void verify_interface() const {
    for (const Variable* input : graph_.inputs()) {
      internal_check(variables_.contains(input), "a graph input was removed");
      check(!input->is_parameter() && !input->producer(), *input, "is a graph input and constant or computed");
    }
    for (const Variable* output : graph_.outputs()) {
      internal_check(variables_.contains(output), "a graph output was removed");
      check(has_value(*output), *output, "is a graph output that nothing computes");
    }
  }

  bool has_value(const Variable& variable) const {
    return variable.is_parameter() || variable.producer() || inputs_.contains(&variable);
  }

  void verify_links(const Variable& variable) const {
    std::set<std::pair<const Operation*, int>> seen;
    for (const ConstUse& use : variable.uses()) {
      check(operations_.contains(use.operation), variable, "is read by an operation that was removed");
      check(use.operation->input(use.slot) == &variable, *use.operation,
            "does not read '{}' although the use list says so", variable.name());
      check(seen.emplace(use.operation, use.slot).second, *use.operation, "stands twice in the use list of '{}'",
            variable.name());
    }
    const Operation* producer = variable.producer();
    if (!producer) return;
    check(operations_.contains(producer), variable, "is computed by an operation that was removed");
    const auto slot = static_cast<size_t>(variable.producer_slot());
    check(slot < producer->outputs().size() && producer->output(slot) == &variable, variable,
          "names another producer than '{}'", producer->name());
    check(!variable.is_parameter(), variable, "is computed and a constant");
  }

  void verify_inputs(const Operation& operation, const OperatorDefinition& definition) const {
    const auto inputs = operation.inputs();
    const bool variadic = !definition.inputs.empty() && definition.inputs.back().variadic;
    check(variadic || inputs.size() <= definition.inputs.size(), operation, "too many operands");
    for (size_t slot = 0; slot < std::max(inputs.size(), definition.inputs.size()); ++slot) {
      const Variable* variable = operation.input(slot);
      const OperandSpec& spec = definition.input_spec(slot);
      check(variable || spec.optional, operation, "operand '{}' is missing", spec.name);
      if (!variable) continue;
      check(variables_.contains(variable), operation, "operand '{}' was removed", spec.name);
      check(has_value(*variable), operation, "nothing computes its operand '{}'", variable->name());
      const auto uses = variable->uses();
      check(std::count(uses.begin(), uses.end(), ConstUse{&operation, static_cast<int>(slot)}) == 1, operation,
            "the use list of '{}' does not match", variable->name());
    }
  }

  void verify_outputs(const Operation& operation, const OperatorDefinition& definition) const {
    const bool variadic = !definition.outputs.empty() && definition.outputs.back().variadic;
    check(variadic || operation.outputs().size() <= definition.outputs.size(), operation, "too many outputs");
    for (size_t slot = 0; slot < operation.outputs().size(); ++slot) {
      const Variable* variable = operation.output(slot);
      if (!variable) continue;
      check(variables_.contains(variable), operation, "output {} was removed", slot);
      check(variable->producer() == &operation && variable->producer_slot() == static_cast<int>(slot), operation,
            "'{}' names another producer", variable->name());
    }
  }

  // --- tensors
  void verify_variable(const Variable& variable) const {
    verify_links(variable);
    if (variable.is_parameter()) {
      check(variable.shape() && at::IntArrayRef(*variable.shape()) == variable.value().sizes(), variable,
            "its shape is not that of its value");
      check(variable.dtype() == variable.value().scalar_type(), variable, "its dtype is not that of its value");
    }
    if (variable.shape())
      for (const int64_t size : *variable.shape()) check(size >= 0, variable, "has the dimension {}", size);
    if (!is(Stage::Chip)) {
      check(!variable.storage(), variable, "has a storage format, which only chip graphs have");
      check(variable.permutation().empty(), variable, "is permuted, which only tensors of chip graphs are");
    } else if (variable.storage()) {
      verify_storage(variable, *variable.storage());
    }
  }

  static void verify_storage(const Variable& variable, const StorageFormat& storage) {
    check(is_codes(storage.dtype), variable, "{} cannot store integers", c10::toString(storage.dtype));
    check(!storage.exponents.empty(), variable, "stores integers without an exponent");
    const auto count = static_cast<int64_t>(storage.exponents.size());
    if (!variable.is_parameter()) {
      check(count == 1, variable, "has {} exponents, a computed tensor has one", count);
      return;
    }
    check(variable.value().scalar_type() == storage.dtype, variable, "its value is {}, its storage {}",
          c10::toString(variable.value().scalar_type()), c10::toString(storage.dtype));
    const auto channels = variable.value().sizes().slice(0, std::min<size_t>(2, variable.value().dim()));
    check(count == 1 || std::count(channels.begin(), channels.end(), count), variable,
          "{} exponents do not fit its shape", count);
  }

  // --- operations
  void verify_operation(const Operation& operation) {
    const OperatorDefinition* definition = operators().find(operation.type());
    if (!definition) internal_check(false, "operation '" + operation.name() + "' has unknown type " + operation.type());
    check(definition->first_stage <= graph_.stage(), operation, "no operator of this stage");
    verify_inputs(operation, *definition);
    verify_outputs(operation, *definition);
    as_internal([&] { check_attributes(operation); });
    verify_facts(operation);
    if (is(Stage::Float))
      check(!operation.quantized(), operation, "is quantized, which nothing of a float graph is");
    else
      verify_slots(operation);
    if (is(Stage::Chip)) verify_formats(operation, *definition);
  }

  void verify_facts(const Operation& operation) const {
    const ChipFacts& facts = operation.chip();
    if (is(Stage::Float)) return check(facts == ChipFacts{}, operation, "has facts of a chip operation");
    if (is(Stage::Quantized)) {
      check(!facts.kernels && !facts.fused_relu && !facts.table && !facts.gate_exponent, operation,
            "has facts of a chip operation");
      check(operation.type() != "LUT" || !facts.function.empty(), operation, "does not say which function it is");
      return;
    }
    if (!facts.table) return;
    check(variables_.contains(facts.table), operation, "its table was removed");
    check(facts.table->is_parameter() && facts.table->storage() && facts.table->uses().empty(), operation,
          "its table '{}' is no stored constant of its own", facts.table->name());
  }

  void verify_slots(const Operation& operation) {
    if (!operation.quantized()) return;
    check(operation.width() && *operation.width() != Width::Float, operation, "is quantized without a width");
    check(operation.input_quant().size() == operation.inputs().size(), operation, "one slot per operand is needed");
    check(operation.output_quant().size() == operation.outputs().size(), operation, "one slot per output is needed");
    if (is(Stage::Chip)) return;  // kept as the record of where the storage formats came from
    for (size_t slot = 0; slot < operation.inputs().size(); ++slot)
      verify_slot(operation, operation.input(slot), operation.input_quant()[slot]);
    for (size_t slot = 0; slot < operation.outputs().size(); ++slot)
      verify_slot(operation, operation.output(slot), operation.output_quant()[slot]);
  }

  void verify_slot(const Operation& operation, const Variable* variable, const SlotQuant& slot) {
    if (slot.is_float() && slot.scale == kNoScale) return;
    const std::string name = variable ? variable->name() : "";
    check(slot.scale >= 0 && static_cast<size_t>(slot.scale) < graph_.scales().size(), operation,
          "the slot of '{}' has no scale", name);
    check(scales_.insert(slot.scale).second, operation, "the slot of '{}' shares its scale node with another", name);
    if (slot.is_float()) return;
    check(variable != nullptr, operation, "the slot of an omitted operand has a grid");
    check(slot.bits >= 2 && slot.bits <= 64, operation, "the slot of '{}' has {} bits", name, slot.bits);
    check(variable->shape().has_value(), operation, "the shape of '{}' is not known", name);
    const size_t count = slot_exponents(graph_, slot).size();
    check(count > 0 || !slot.quantizes(), operation, "the slot of '{}' rounds to an unknown grid", name);
    if (slot.channel_axis < 0) return check(count <= 1, operation, "the slot of '{}' has {} exponents", name, count);
    const auto rank = static_cast<int>(variable->shape()->size());
    check(slot.channel_axis < rank, operation, "'{}' has no axis {}", name, slot.channel_axis);
    const int64_t channels = (*variable->shape())[slot.channel_axis];
    check(count <= 1 || static_cast<int64_t>(count) == channels, operation, "{} exponents for the {} channels of '{}'",
          count, channels, name);
  }

  /// Kernels for integers see some.
  static void verify_formats(const Operation& operation, const OperatorDefinition& definition) {
    const auto stored = [](const Variable* variable) { return variable && variable->storage(); };
    const auto inputs = operation.inputs(), outputs = operation.outputs();
    const bool any =
        std::any_of(inputs.begin(), inputs.end(), stored) || std::any_of(outputs.begin(), outputs.end(), stored);
    const bool integers = operation.chip().kernels.value_or(Width::Float) != Width::Float;
    check(any || !(integers || definition.quantization.converts), operation,
          "none of its tensors is stored as integers");
  }

  const Graph& graph_;
  std::unordered_set<const Operation*> operations_;
  std::unordered_set<const Variable*> variables_, inputs_;
  std::unordered_set<ScaleId> scales_;  ///< of the slots seen so far
};

}  // namespace

void verify(const Graph& graph) { Verifier(graph).run(); }

}  // namespace espq
